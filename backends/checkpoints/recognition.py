"""Which network a set of tensor names belongs to, and what foreign weights are called."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class KnownNetwork:
    """One kind of network that Exeunt has: all that has to be said of it outside its own module.

    Attributes:
        home: its module in `backends/networks` and its class, which is imported when it is asked for.
        telling: names that every file of its weights has; the first tells prefixes apart. Empty if files can't tell.
    """

    home: str
    telling: tuple[str, ...] = ()


NETWORKS: dict[str, KnownNetwork] = {
    "DiT": KnownNetwork(
        "dit:DiTNetwork",
        (
            "x_embedder.proj.weight",
            "t_embedder.mlp.0.weight",
            "y_embedder.embedding_table.weight",
            "final_layer.linear.weight",
        ),
    ),
    "U-ViT": KnownNetwork(
        "uvit:UViTNetwork",
        ("patch_embed.proj.weight", "pos_embed", "mid_block.attn.qkv.weight", "decoder_pred.weight"),
    ),
    "diffusers": KnownNetwork("hf.network:DiffusersNetwork"),
    "closed-form": KnownNetwork("closed_form:ClosedFormNetwork"),
}
TELLING = {name: known.telling for name, known in NETWORKS.items() if known.telling}

CONVERT = "Convert it with diffusers (`from_single_file`, then `save_pretrained`) and give the folder."
DESCRIBE = "Describe it in a file of your own and give `--network FILE.py:Class` (docs/own-network.md)."
GIVE_DENOISER = "Give the weights of the diffusion network itself."

# Networks that have all names of one of ours and others beside, as below.
_NEARLY = (
    (
        r"(^|\.)en_inblocks\.0\.attn\.rel_pos_bias\.",
        "an MDTv2 (no DiT: its blocks take long skips, and its attention has biases of relative positions)",
        DESCRIBE,
    ),
    (
        r"(^|\.)decoder_layer\.linear\.weight$",
        "a MaskDiT with its decoder (no DiT: blocks of another width follow, under EDM's preconditioning)",
        DESCRIBE,
    ),
)
# Weights that are no network of ours: a name that gives them away, what they are, what to do.
_FOREIGN = (
    (r"\.lora_(A|B|up|down)\b|\.lora\.(up|down)\.", "a LoRA", "Merge it into its network, and give that."),
    (r"(^|\.)input_blocks\.0\.0\.weight$", "a U-Net in the layout of the original Stable Diffusion code", CONVERT),
    (r"(^|\.)joint_blocks\.0\.x_block\.", "Stable Diffusion 3 in its original layout", CONVERT),
    (r"(^|\.)double_blocks\.0\.img_attn\.", "FLUX in its original layout", CONVERT),
    (r"^y_embedder\.y_proj\.", "PixArt in its original layout", "Convert it with diffusers' script for PixArt."),
    (r"(^|\.)enc\.\d+x\d+_\w+\.", "a network of the EDM code", DESCRIBE),
    (r"(^|\.)decoder\.conv_in\.weight$|quant_conv\.weight$", "an autoencoder", GIVE_DENOISER),
    (
        r"^(transformer_blocks|single_transformer_blocks)\.\d+\.|^(down_blocks|up_blocks)\.\d+\.resnets\.",
        "the weights of a diffusers model",
        "Give the folder with its config.json, or the pipeline's with model_index.json.",
    ),
    (r"(^|\.)text_model\.embeddings\.|\.SelfAttention\.q\.weight$", "a text encoder", GIVE_DENOISER),
    (r"(^|\.)(embed_tokens|tok_embeddings|word_embeddings|wte)\.weight$|^lm_head\.", "a language model", GIVE_DENOISER),
    (r"^layer1\.0\.conv1\.weight$|(^|\.)cls_token$", "an image classifier", GIVE_DENOISER),
)


@dataclass(frozen=True)
class Recognition:
    """What a set of tensors is recognised as.

    Attributes:
        network: its name in `NETWORKS`, or None.
        what: the words for it, such as "a language model".
        seen: the names that say so.
        fix: what to do where it is not one of these networks; empty otherwise.
    """

    network: str | None
    what: str
    seen: tuple[str, ...]
    fix: str = ""


def recognise(tensors: Mapping[str, Tensor]) -> Recognition:
    """What a set of tensors is taken for, by their names."""
    if nearly := _foreign(_NEARLY, tensors):
        return nearly
    for network, telling in TELLING.items():
        if all(name in tensors for name in telling):
            return Recognition(network, f"a {network}", telling)
    if foreign := _foreign(_FOREIGN, tensors):
        return foreign
    first = tuple(f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:4])
    return Recognition(None, f"{len(tensors)} tensors of no supported network", first, DESCRIBE)


def _foreign(known: Iterable[tuple[str, str, str]], tensors: Mapping[str, Tensor]) -> Recognition | None:
    for pattern, what, fix in known:
        found = tuple(name for name in tensors if re.search(pattern, name))
        if found:
            return Recognition(None, what, found[:3], fix)
    return None


def known_prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes, in order, behind which the names of a known network stand; "" among them where they stand bare."""
    present = list(names)
    everything = set(present)
    found: dict[str, None] = {}
    for telling in TELLING.values():
        for name in present:
            prefix = name.removesuffix(telling[0])
            at_dot = prefix == "" or prefix.endswith(".")
            if name.endswith(telling[0]) and at_dot and all(prefix + each in everything for each in telling):
                found[prefix] = None
    return list(found)
