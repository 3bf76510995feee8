"""Train the convnet of lecture 04 in PyTorch and export it: needle_lab/models/pretrained/digits_convnet.onnx.

    python tools/train_digits_convnet.py [FILE]

Needs torch and onnxscript, which learners never do: they get the file. About ten seconds.
"""

import sys
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn import functional as F

from needle_lab.data import digits

TARGET = Path(__file__).parents[1] / "needle_lab" / "models" / "pretrained" / "digits_convnet.onnx"
EPOCHS, BATCH = 60, 64


class Block(nn.Module):
    """x + f(x), so that the drawn graph has two ways that meet."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class DigitsConvNet(nn.Module):
    """(N, 1, 8, 8) pixels in [0, 1] -> (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.block = Block(16)
        self.widen = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(128, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.block(F.relu(self.norm(self.stem(image)))), 2)
        x = F.max_pool2d(F.relu(self.widen(x)), 2)
        return self.head(torch.flatten(x, 1))


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The images, moved together by up to one pixel each way."""
    right, down = torch.randint(0, 3, (2,)).tolist()
    return F.pad(images, (1, 1, 1, 1))[..., down:down + 8, right:right + 8]


def train() -> DigitsConvNet:
    images, labels = map(torch.tensor, digits("train").arrays)
    model = DigitsConvNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(shifted(images[batch])), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def export(model: DigitsConvNet, path: Path) -> None:
    """Opset and names as PyTorch's default exporter writes them; only the records of our source lines are left out."""
    torch.onnx.export(model, (torch.zeros(2, 1, 8, 8),), path, input_names=["image"], output_names=["logits"],
                      dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False)
    proto = onnx.load(path)
    for holder in [proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info]:
        kept = [entry for entry in holder.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        del holder.metadata_props[:]
        holder.metadata_props.extend(kept)
        holder.doc_string = ""
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    torch.manual_seed(0)
    model = train()
    images, labels = map(torch.tensor, digits("test").arrays)
    accuracy = (model(images).argmax(1) == labels).float().mean().item()
    export(model, target)
    print(f"{target}: {target.stat().st_size:,} bytes, {accuracy:.2%} of {len(labels)} held-out digits")
