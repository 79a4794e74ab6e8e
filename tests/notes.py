"""The notes' networks, as they stand there: 2.13.1.1, 2.13.1.2 and 2.14.1."""

# ruff: noqa: ERA001, RET504 - so they stand there

from torch import nn


class NET(nn.Module):
    """2.13.1.1."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(1, 10, 5),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(10, 20, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(20 * 10 * 10, 500),  # 全连接层为线性层
            nn.ReLU(),
            nn.Linear(500, 10),
            # nn.Softmax(dim=1)
        )

    def forward(self, x):
        return self.model(x)


class Module(nn.Module):
    """2.13.1.2."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(3, 32, 5, 1, 2),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 5, 1, 2),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, 1, 2),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
            # nn.ReLU()
            # nn.Sigmoid()
        )

    def forward(self, x):
        x = self.model(x)
        return x


def lenet():
    """2.14.1."""
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, 10),
    )
