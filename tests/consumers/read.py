"""Writes what a consumer's own classes change in the base model with a bundle: read.py LABEL DIR OUT.

Run in a process of its own, with the consumer on PYTHONPATH, as two versions of one can't be in one process.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file

from rank_search.export.consumers import readers
from rank_search.export.manifest import Manifest
from rank_search.export.probe import Reference, load_base
from rank_search.export.protocol import Bundle
from rank_search.export.updates import Refused
from tests.consumers.stand_ins import stand_in_for

label, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
(reader,) = (reader for reader in readers() if reader.label == label)
base = Manifest.read(folder).base
loaded = load_base(base.located(trust_remote_code=False), base.auto_class, base.classes)
if label == "sglang":
    stand_in_for("torchvision")
try:
    applied = reader.own_code(Bundle(folder, loaded, Reference.load(folder)))
except Refused as refusal:
    print(f"refused: {refusal}")
    sys.exit()
changes = {name: (scale * (b.float() @ a.float())).contiguous() for name, (a, b, scale) in applied.updates.items()}
whole = {f"whole {name}": tensor.contiguous() for name, tensor in applied.replaced.items()}
save_file({**changes, **whole}, out)
