"""What runs under PyTorch's names means what it means there, at PyTorch's own samples; what is missing is refused by name.

`python tests/torch_samples.py ops` prints the same, name by name.
"""

import pytest
from peers import require

require("torch")
require("expecttest")
import torch_samples  # noqa: E402

LEAST = {"ops": 330, "modules": 100, "optimizers": 12}


@pytest.mark.parametrize("what", LEAST)
def test_pytorchs_samples(what):
    rows = torch_samples.score(what)
    wrong = [f"{row.name}  {row.why}" for row in rows if row.state == "wrong"]
    assert not wrong, "\n".join(wrong)
    silent = [row.name for row in rows if row.state == "missing" and not row.why]
    assert not silent, f"needle_lab/refused.py should say why these are not part of needle_lab: {silent}"
    right = sum(row.state == "right" for row in rows)
    print(f"{what}: {right} right, {sum(row.state == 'missing' for row in rows)} refused")
    assert right >= LEAST[what]
