"""Enlarge photographs: a network that computes the pixels between the pixels.

All its convolutions work on the small picture; the last one has a channel for each of the places
that a pixel of the large one can have, and `PixelShuffle` puts them there. (Shi et al., "Real-time
single image and video super-resolution using an efficient sub-pixel convolutional neural network",
2016.) It adds to bicubic interpolation what that lacks, for the brightness; eyes see colours less
sharply, so they are only interpolated.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import trange

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.optim.lr_scheduler import OneCycleLR

# Of scikit-image's pictures: photographs, textures, prints, and views through instruments.
TRAINING = """motorcycle_left.png rocket.jpg camera.png coins.png brick.png gravel.png grass.png
page.png text.png clock_motion.png moon.png retina.jpg ihc.png hubble_deep_field.jpg""".split()
TESTING = ["astronaut.png", "coffee.png", "chelsea.png"]


class SubPixelNet(nn.Module):
    def __init__(self, upscale):
        super().__init__()
        self.upscale = upscale
        self.layers = nn.Sequential(
            nn.Conv2d(1, 64, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, upscale**2, 3, padding=1),
            nn.PixelShuffle(upscale),
        )
        nn.init.normal_(self.layers[-2].weight, std=0.001)  # begins close to the interpolation

    def forward(self, small):
        """Brightness [batch, 1, h, w] in 0..1 to [batch, 1, h * upscale, w * upscale]."""
        smooth = F.interpolate(
            small, scale_factor=self.upscale, mode="bicubic", align_corners=False
        )
        return smooth + self.layers(small)


def pair(picture, upscale):
    """A picture, cropped to a multiple of `upscale`, and the same with fewer pixels."""
    width, height = (size // upscale for size in picture.size)
    large = picture.crop((0, 0, width * upscale, height * upscale))
    return large, large.resize((width, height), Image.Resampling.BICUBIC)


def read(path):
    """Brightness, blue and red (YCbCr)."""
    return Image.open(path).convert("RGB").convert("YCbCr")


def pixels(brightness, device):
    """[1, 1, h, w] in 0..1."""
    array = np.asarray(brightness, np.float32)[None, None] / 255
    return braze.from_numpy(array).to(device)


def load_training(paths, upscale):
    """Brightness of each picture, large [h * upscale, w * upscale] and small [h, w], as bytes."""
    pairs = [pair(read(path).getchannel(0), upscale) for path in paths]
    return [(np.asarray(large), np.asarray(small)) for large, small in pairs]


def patches(pairs, count, size, upscale, random):
    """Random squares, turned at random: small [count, 1, size, size], and large, in 0..1."""
    smalls, larges = [], []
    areas = np.array([small.size for _, small in pairs])
    for n in random.choice(len(pairs), count, p=areas / areas.sum()):
        large, small = pairs[n]
        top, left = (random.integers(0, side - size + 1) for side in small.shape)
        turns, mirrored = random.integers(4), random.integers(2)
        for picture, scale, chosen in ((small, 1, smalls), (large, upscale, larges)):
            rows = slice(top * scale, (top + size) * scale)
            columns = slice(left * scale, (left + size) * scale)
            patch = np.rot90(picture[rows, columns], turns)
            chosen.append(patch[:, ::-1] if mirrored else patch)
    return [np.stack(chosen)[:, None].astype(np.float32) / 255 for chosen in (smalls, larges)]


def psnr(ours, original, margin):
    """Peak signal-to-noise ratio in dB of bytes [h, w]; pixels at the margin don't count."""
    inside = (slice(margin, -margin), slice(margin, -margin))
    difference = ours[inside].astype(np.float64) - original[inside]
    return 10 * math.log10(255**2 / max(np.mean(difference**2), 1e-10))


@braze.no_grad()
def enlarged(model, small, device):
    """A picture with `model.upscale` times as many rows and columns."""
    model.eval()
    brightness, *colours = small.split()
    sharp = model(pixels(brightness, device)).clamp(0, 1)[0, 0].mul(255).round()
    sharp = Image.fromarray(sharp.cpu().numpy().astype(np.uint8))
    smooth = [colour.resize(sharp.size, Image.Resampling.BICUBIC) for colour in colours]
    return Image.merge("YCbCr", [sharp, *smooth])


def test(model, paths, device):
    """PSNR of the brightness of each picture: [pictures, (bicubic, ours)]."""
    results = []
    for path in paths:
        large, small = pair(read(path), model.upscale)
        smooth = small.resize(large.size, Image.Resampling.BICUBIC)
        ours = enlarged(model, small, device)
        bicubic, sharp, original = (
            np.asarray(picture.getchannel(0)) for picture in (smooth, ours, large)
        )
        results.append([psnr(other, original, model.upscale) for other in (bicubic, sharp)])
    return np.array(results)


def draw(model, paths, file, device, side=150):
    """The middle of each picture: its pixels, bicubic interpolation, the network, the original."""
    sheet = Image.new("RGB", (4 * side, len(paths) * side))
    for row, path in enumerate(paths):
        large, small = pair(read(path), model.upscale)
        versions = [
            small.resize(large.size, Image.Resampling.NEAREST),
            small.resize(large.size, Image.Resampling.BICUBIC),
            enlarged(model, small, device),
            large,
        ]
        left, top = (size // 2 - side // 2 for size in large.size)
        for column, version in enumerate(versions):
            middle = version.crop((left, top, left + side, top + side)).convert("RGB")
            sheet.paste(middle, (column * side, row * side))
    sheet.save(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train a network that enlarges pictures.")
    parser.add_argument("--upscale", type=int, default=3, help="how many times larger")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=500, help="of an epoch")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch", type=int, default=24, help="side of a small picture")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", metavar="DIR", help="train on the pictures of this folder")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--picture", metavar="FILE", help="draw what becomes of the test pictures")
    parser.add_argument("--enlarge", nargs=2, metavar=("FILE", "LARGER"), help="enlarge a picture")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    checkpoint = braze.load(args.resume) if args.resume else None
    upscale = checkpoint["upscale"] if checkpoint else args.upscale
    model = SubPixelNet(upscale).to(args.device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    done = 0
    if checkpoint:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done = checkpoint["epoch"]

    if args.enlarge:  # with what --resume has read
        file, larger = args.enlarge
        enlarged(model, read(file), args.device).convert("RGB").save(larger)
        return None

    # More epochs than the checkpoint's run had planned are fine: the cycle is drawn anew.
    steps = args.epochs * args.steps
    taken = done * args.steps
    scheduler = OneCycleLR(
        optimizer,
        args.lr,
        total_steps=max(steps, taken, 2),
        cycle_momentum=False,
        last_epoch=taken - 1,
    )

    import skimage

    shipped = Path(skimage.__file__).parent / "data"
    tested = [shipped / name for name in TESTING]
    folder = Path(args.data) if args.data else shipped
    trained = sorted(folder.iterdir()) if args.data else [shipped / name for name in TRAINING]
    pairs = load_training(trained, upscale)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        random = np.random.default_rng([args.seed, epoch])
        model.train()
        total = braze.zeros((), device=args.device)
        for _ in trange(args.steps, desc=f"epoch {epoch}", leave=False, disable=None):
            batch = patches(pairs, args.batch_size, args.patch, upscale, random)
            small, large = (braze.from_numpy(part).to(args.device) for part in batch)
            loss = F.mse_loss(model(small), large)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.detach()
        mean = total.item() / args.steps
        seconds = time.perf_counter() - start
        bicubic, ours = test(model, tested, args.device).mean(axis=0)
        print(
            f"epoch {epoch}/{args.epochs}: loss {mean:.6f}, test {ours:.2f} dB "
            f"(bicubic {bicubic:.2f} dB), {seconds:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch, "upscale": upscale}, args.save)
    if args.picture:
        draw(model, tested, args.picture, args.device)
    results = test(model, tested, args.device)
    for path, (bicubic, ours) in zip(tested, results, strict=True):
        print(f"{path.stem}: {ours:.2f} dB, bicubic {bicubic:.2f} dB")
    return results


if __name__ == "__main__":
    main()
