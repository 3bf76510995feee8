import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class CharRNN(nn.Module):
    def __init__(self, n_chars, hidden_size, n_layers=2):
        super().__init__()
        self.encoder = nn.Embedding(n_chars, hidden_size, padding_idx=0)
        self.rnn = nn.LSTM(hidden_size, hidden_size, n_layers, batch_first=True, bidirectional=False)
        self.decoder = nn.Linear(hidden_size, n_chars)

    def forward(self, x, lengths, hidden=None):
        packed = pack_padded_sequence(self.encoder(x), lengths, batch_first=True, enforce_sorted=False)
        output, hidden = self.rnn(packed, hidden)
        output, lengths = pad_packed_sequence(output, batch_first=True)
        return self.decoder(output), hidden, lengths


def main(arrays, start):
    lines = [torch.tensor(line, dtype=torch.long) for line in arrays["lines"]]
    lengths = torch.tensor([len(line) - 1 for line in lines])
    x = pad_sequence([line[:-1] for line in lines], batch_first=True)
    y = pad_sequence([line[1:] for line in lines], batch_first=True)
    model = CharRNN(20, 16)
    start(model)
    criterion = nn.CrossEntropyLoss(ignore_index=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        model.zero_grad()
        logits, (h, c), found = model(x, lengths)
        assert h.size() == torch.Size([2, len(lines), 16]) and found.tolist() == lengths.tolist()
        loss = criterion(logits.view(-1, logits.size(-1)), y.view(-1))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses += [loss.item(), float(norm)]
    model.eval()
    text, hidden = [], None
    with torch.no_grad():
        inp = x[:1, :1]
        for _ in range(10):
            logits, hidden, _ = model(inp, torch.tensor([1]), hidden)
            prob = torch.softmax(logits[:, -1] / 0.8, dim=-1)
            values, indices = torch.topk(prob, 3, dim=-1)
            inp = indices[:, :1]
            text += [inp.item(), values.sum().item()]
    return losses + text
