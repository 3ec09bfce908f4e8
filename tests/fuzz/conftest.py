"""Every reader of files, the test that fuzzes it, and the profile for long runs.

| what is read | by | fuzzed in |
|---|---|---|
| schedule files, files and folders of proposals | schedule.py, proposals.py | test_text_files, test_command_line |
| ASE, SmoothCache, ECAD, cache-dit (YAML), times, whichever it is | formats*.py | test_text_files |
| times and depths by hand, `--set`, budgets, URLs | formats_text.py, config.py, budget.py | test_command_line |
| study files (TOML) | config.py | test_text_files |
| labels and prompts, a line or a JSON object each | conditions.py, prompts.py | test_text_files |
| files with a database's URL | options.py | test_command_line |
| weights: .safetensors, .pt, .pth, .bin, shards, keys | containers.py, weights.py | test_weights |
| what Exeunt's own files of weights say in their metadata | dit.py, decoders.py, loading.py | test_networks |
| folders of diffusers: index, configurations | folders.py, hf*.py | test_pictures_and_folders, test_pipelines |
| text encoders and tokenizers of pipelines | hf_loading.py, hf_text.py | test_pipelines |
| autoencoders' folders and files | decoders.py, hf_decoding.py | test_networks |
| references: .npz, statistics, folders of images | reference_*.py | test_pictures_and_folders |
| weights of feature extractors, torch's cache of them | inception.py | test_networks |
| databases: their bytes, and any value in any column | studies/ | test_databases |
| pictures that a study keeps | kept_samples.py | test_databases |
| places for files: markers, files, what S3 servers answer | studies/artifacts/files.py, artifact*.py | test_stores |
| folders of ONNX graphs | assets/onnx/sample.py | test_onnx_folders |

CSV and PDF are only written. Files of Python that users name are theirs, and run.

`pytest tests/fuzz --hypothesis-profile=long` tries 2,000 examples of each, and some hundreds of what loads whole
networks or runs commands; others in every run.
"""

from hostile import LONG
from hypothesis import settings

settings.register_profile(LONG)
