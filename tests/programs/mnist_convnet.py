import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1)
        self.bn = nn.BatchNorm2d(16)
        self.dropout = nn.Dropout(0.0)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.bn(self.conv2(x)), inplace=True)
        x = F.max_pool2d(x, 2)
        x = torch.flatten(x, 1)
        x = self.dropout(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def train(model, device, train_loader, optimizer, epoch, losses):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if batch_idx % 4 == 0:
            print(f"epoch {epoch} [{batch_idx * len(data)}/{len(train_loader.dataset)}]\tloss: {loss.item():.6f}")


def test(model, device, test_loader):
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
            _, top = output.max(1)
            assert (top == pred.squeeze(1)).all()
    return test_loss / len(test_loader.dataset), correct / len(test_loader.dataset)


def main(arrays, start):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.from_numpy(arrays["images"]).float().div(255).unsqueeze(1)
    images = (images - 0.1307) / 0.3081
    labels = torch.from_numpy(arrays["labels"]).long()
    train_loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=False, num_workers=0, pin_memory=False)
    test_loader = DataLoader(TensorDataset(images, labels), batch_size=64)
    model = Net().to(device)
    start(model)
    optimizer = optim.Adadelta(model.parameters(), lr=0.5)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    losses, results = [], []
    for epoch in range(1, 3):
        train(model, device, train_loader, optimizer, epoch, losses)
        results.extend(test(model, device, test_loader))
        scheduler.step()
    return losses + results + scheduler.get_last_lr()
