"""What a fine-tuned checkpoint says of itself: card.json for programs, card.md for people."""

import json
from collections.abc import Mapping
from typing import Any


def card_json(card: Mapping[str, Any]) -> bytes:
    return (json.dumps(card, indent=1) + "\n").encode()


def card_page(card: Mapping[str, Any]) -> bytes:
    """The card as a page of Markdown."""
    trained, data, recipe = card["trained"], card["data"], card["recipe"]
    lines = [
        f"# {card['checkpoint']}, fine-tuned to leave early",
        "",
        f"Made from `{card['checkpoint']}` (weights {str(card['from_sha256'])[:12]}…) by `exeunt finetune`. The file",
        "holds the moving average of the weights.",
        "",
        "| | |",
        "|---|---|",
        f"| trained at | {trained['what']} |",
        f"| data | {data['path']}, {data['images']:,} images{', with labels' if data['labels'] else ''} |",
        f"| steps | {card['steps']:,} of {recipe['num_steps']:,}, {recipe['batch_size']} images each |",
        f"| rate | {recipe['learning_rate']:g}, {'half a cosine' if recipe['cosine'] else 'constant'} |",
        f"| average | decay {recipe['ema_decay']:g} |",
        f"| weighting | {card['weighting']} |",
        f"| time | {card['seconds']:,.0f} s on {card['device']}, {card['processes']} process(es), precision "
        f"{card['precision']}, torch {card['torch']} |",
    ]
    if card["losses"]:
        first, last = card["losses"][0], card["losses"][-1]
        lines.append(f"| loss | {first[1]:.4f} (step {first[0]}) → {last[1]:.4f} (step {last[0]}) |")
    lines += ["", "The whole loss curve is in `card.json`.", ""]
    return "\n".join(lines).encode()
