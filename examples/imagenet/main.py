"""Train a residual network to say what pictures show, as is done on ImageNet.

(He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.) `--data` names a
folder with `train/` and `val/`, each with one folder of pictures for each class. If it is not
there, it is made: of the digits that come with Braze, or of the IDX files in the folder `--idx`.
`--distributed` makes it one of several processes that train together.
"""

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import braze
import braze.nn.functional as F
from braze import distributed as dist
from braze import nn, optim
from braze.datasets import load_idx, load_mnist
from braze.optim.lr_scheduler import LambdaLR
from braze.utils.data import DataLoader, Dataset, DistributedSampler, Subset

# Of ImageNet's colours, red, green and blue.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


class Block(nn.Module):
    """Two convolutions, or three around a bottleneck, added to what comes in.

    The parameters' names here and below are torchvision's, so that its files can be read.
    """

    def __init__(self, before, width, stride, bottleneck):
        super().__init__()
        after = 4 * width if bottleneck else width
        if bottleneck:
            shapes = [(before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)]
        else:
            shapes = [(before, width, 3, stride), (width, after, 3, 1)]
        self.count = len(shapes)
        for i, (channels, more, kernel, step) in enumerate(shapes, 1):
            convolution = nn.Conv2d(channels, more, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{i}", convolution)
            self.add_module(f"bn{i}", nn.BatchNorm2d(more))
        nn.init.zeros_(getattr(self, f"bn{self.count}").weight)  # begins as the identity
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        same = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.count + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            if i < self.count:
                x = F.relu(x)
        return F.relu(x + same)


class ResNet(nn.Module):
    def __init__(self, depths, bottleneck, classes, width=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for i, depth in enumerate(depths):
            inner, blocks = width << i, []
            for j in range(depth):
                blocks.append(Block(before, inner, 2 if i and not j else 1, bottleneck))
                before = 4 * inner if bottleneck else inner
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        """Pictures [batch, 3, h, w] to logits [batch, classes]."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


ARCHITECTURES = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


class Pictures(Dataset):
    """The pictures of a folder of classes, as bytes [3, size, size], with their classes.

    crop: the smallest share of a picture that is cut out at random for training; None takes the
        middle instead.
    flip: how likely a picture is mirrored.
    """

    def __init__(self, folder, size, crop=None, flip=0.0):
        self.classes = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
        self.files = [
            (path, number)
            for number, name in enumerate(self.classes)
            for path in sorted((Path(folder) / name).rglob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        self.size, self.crop, self.flip = size, crop, flip

    def __len__(self):
        return len(self.files)

    def random_box(self, width, height):
        """A part whose area is at least `crop`, between 3:4 and 4:3 (Szegedy et al., 2015)."""
        for _ in range(10):
            area = width * height * random.uniform(self.crop, 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if w <= width and h <= height:
                left, top = random.uniform(0, width - w), random.uniform(0, height - h)
                return left, top, left + w, top + h
        return self.middle_box(width, height)

    def middle_box(self, width, height):
        """The square of 7/8 of the shorter side: 224 of 256 pixels."""
        side = min(width, height) * 7 / 8
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def __getitem__(self, i):
        path, number = self.files[i]
        with Image.open(path) as file:
            picture = file.convert("RGB")
        choose = self.middle_box if self.crop is None else self.random_box
        box = choose(*picture.size)
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box)
        pixels = np.asarray(picture).transpose(2, 0, 1)
        if random.random() < self.flip:
            pixels = pixels[:, :, ::-1]
        return np.ascontiguousarray(pixels), number


def make_pictures(folder, idx=None, count=10_000):
    """PNG files of `count` pictures of IDX files or of the packaged digits, one in five for val."""
    if idx is None:
        images, labels = load_mnist()
    else:
        images, labels = load_idx(idx, train=True)
    unfinished = Path(f"{folder}.unfinished")
    for i in tqdm(range(min(count, len(labels))), "making pictures", leave=False, disable=None):
        path = unfinished / ("val" if i % 5 == 4 else "train") / str(labels[i]) / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(path)
    unfinished.rename(folder)


def normalized(pictures, device):
    """Bytes [batch, 3, h, w] as numbers with ImageNet's means and deviations taken out."""
    mean, std = (braze.tensor(x, device=device)[:, None, None] for x in (MEAN, STD))
    return (pictures.to(device).float() / 255 - mean) / std


@braze.no_grad()
def test(model, loader, device):
    """Shares of pictures whose class is the likeliest, and among the five likeliest, of all
    processes' parts."""
    model.eval()
    totals = braze.tensor([0.0, 0.0, len(loader.dataset)], device=device)
    for pictures, target in bar(loader, "test"):
        logits = model(normalized(pictures, device))
        best = logits.topk(min(5, logits.shape[1])).indices
        hits = best == target.to(device)[:, None]
        totals[:2] += braze.stack([hits[:, 0].sum(), hits.sum()])
    if dist.is_initialized():
        dist.all_reduce(totals)
    return (totals[:2] / totals[2]).tolist()


def train(model, loader, optimizer, scheduler, args, label):
    """One epoch; the mean loss."""
    model.train()
    total = braze.zeros((), device=args.device)
    for pictures, target in bar(loader, label):
        logits = model(normalized(pictures, args.device))
        loss = F.cross_entropy(logits, target.to(args.device), label_smoothing=args.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.detach()
    return total.item() / len(loader)


def bar(loader, label):
    """A line that fills in a terminal; only one process draws it."""
    quiet = dist.is_initialized() and dist.get_rank() > 0
    return tqdm(loader, label, leave=False, disable=quiet or None)


def rate(steps, warmup):
    """Learning rates as a share of the highest: a line up, then half a cosine down to zero."""

    def at(step):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))

    return at


def main(argv=None):
    parser = argparse.ArgumentParser(
        description="Train a residual network on a folder of pictures."
    )
    parser.add_argument("--data", metavar="DIR", default="digits", help="with train/ and val/")
    parser.add_argument("--idx", metavar="DIR", help="make the pictures of these IDX files")
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default="resnet18")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--lr", type=float, default=0.05, help="highest learning rate")
    parser.add_argument("--warmup", type=float, default=1.0, help="epochs of rising rates")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--label-smoothing", type=float, default=0.1)
    parser.add_argument("--size", type=int, default=32, help="pixels; ImageNet's usual: 224")
    parser.add_argument("--crop", type=float, default=0.5, help="smallest part; ImageNet's: 0.08")
    parser.add_argument("--flip", type=float, default=0.0, help="how many to mirror; usual: 0.5")
    parser.add_argument("--workers", type=int, default=1, help="processes that read pictures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--evaluate", action="store_true", help="only test")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw the accuracies (needs matplotlib)")
    parser.add_argument("--distributed", action="store_true", help="mpiexec has started several")
    args = parser.parse_args(argv)

    rank, ranks = 0, 1
    if args.distributed:
        dist.init_process_group("mpi")
        rank, ranks = dist.get_rank(), dist.get_world_size()
    if args.batch_size % ranks:
        parser.error(f"--batch-size {args.batch_size} cannot be shared out among {ranks} processes")
    random.seed(args.seed + rank)
    braze.manual_seed(args.seed + rank)
    if rank == 0 and not Path(args.data).exists():
        make_pictures(args.data, args.idx)
    if args.distributed:
        dist.barrier()
    training = Pictures(Path(args.data) / "train", args.size, args.crop, args.flip)
    testing = Pictures(Path(args.data) / "val", args.size)
    if training.classes != testing.classes:
        parser.error(f"{args.data}/train and {args.data}/val have different classes")
    options = {"num_workers": args.workers, "persistent_workers": args.workers > 0}
    sampler = DistributedSampler(training, seed=args.seed) if args.distributed else None
    train_loader = DataLoader(
        training,
        args.batch_size // ranks,
        shuffle=sampler is None,
        sampler=sampler,
        drop_last=True,
        **options,
    )
    part = Subset(testing, range(rank, len(testing), ranks))
    test_loader = DataLoader(part, 250, **options)

    model = ResNet(*ARCHITECTURES[args.arch], len(training.classes)).to(args.device)
    optimizer = optim.SGD(
        model.parameters(),
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=True,
    )
    done, history = 0, []
    if args.resume:
        checkpoint = braze.load(args.resume)
        if checkpoint["arch"] != args.arch or checkpoint["classes"] != training.classes:
            parser.error(f"{args.resume} is of a {checkpoint['arch']}, or of other classes")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done, history = checkpoint["epoch"], checkpoint["history"]
    if args.evaluate:
        top1, top5 = test(model, test_loader, args.device)
        if rank == 0:
            print(f"test accuracy {top1:.2%}, among five {top5:.2%}")
        return top1

    steps = len(train_loader)
    shares = rate(args.epochs * steps, int(args.warmup * steps))
    scheduler = LambdaLR(optimizer, shares, last_epoch=done * steps - 1)
    # All begin with rank 0's parameters, and average their gradients.
    trained = nn.parallel.DistributedDataParallel(model) if args.distributed else model
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        if sampler is not None:
            sampler.set_epoch(epoch)
        loss = train(trained, train_loader, optimizer, scheduler, args, f"epoch {epoch}")
        seconds = time.perf_counter() - start
        if args.distributed:
            for buffer in model.buffers():  # each has seen other pictures: rank 0's count
                dist.broadcast(buffer, 0)
        history.append(test(model, test_loader, args.device))
        top1, top5 = history[-1]
        if rank > 0:
            continue
        print(
            f"epoch {epoch}/{args.epochs}: loss {loss:.4f}, test accuracy {top1:.2%}, "
            f"among five {top5:.2%}, {seconds:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            facts = {"arch": args.arch, "classes": training.classes, "history": history}
            braze.save({**state, **facts, "epoch": epoch}, args.save)
    if args.plot and rank == 0:
        plot(history, args.plot)
    return history[-1][0]


def plot(history, path):
    """Draw both accuracies after each epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for label, values in zip(("right", "among five"), np.transpose(history), strict=True):
        axes.plot(range(1, len(values) + 1), 100 * values, label=label)
    axes.set(xlabel="epochs", ylabel="test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
