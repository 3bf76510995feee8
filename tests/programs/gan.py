import torch
from torch import nn


class Generator(nn.Module):
    def __init__(self, latent, channels):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(latent, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
            nn.ConvTranspose2d(16, channels, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, z):
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, 8, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(16, 1, 2, 1, 0, bias=False), nn.Sigmoid())

    def forward(self, x):
        return self.main(x).view(-1)


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


def main(arrays, start):
    netG, netD = Generator(6, 1), Discriminator(1)
    netG.apply(weights_init)
    netD.apply(weights_init)
    start(nn.ModuleList([netG, netD]))
    criterion = nn.BCELoss()
    optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
    history = []
    for real, noise in zip(arrays["real"], arrays["noise"]):
        real, noise = torch.as_tensor(real), torch.as_tensor(noise)[:, :, None, None]
        b_size = real.size(0)
        netD.zero_grad()
        label = torch.full((b_size,), 1.0, dtype=torch.float)
        errD_real = criterion(netD(real), label)
        errD_real.backward()
        fake = netG(noise)
        label.fill_(0.0)
        output = netD(fake.detach())
        errD_fake = criterion(output, label)
        errD_fake.backward()
        D_G_z1 = output.mean().item()
        optimizerD.step()
        netG.zero_grad()
        label = torch.ones_like(label)
        errG = criterion(netD(fake), label)
        errG.backward()
        optimizerG.step()
        history += [(errD_real + errD_fake).item(), errG.item(), D_G_z1]
    netG.eval()
    with torch.no_grad():
        image = netG(torch.as_tensor(arrays["noise"][0]).unsqueeze(-1).unsqueeze(-1)).mul(0.5).add(0.5).clamp(0, 1)
    return history + [image.mean().item(), image.std().item(), torch.std(image, dim=(1, 2, 3)).max().item()]
