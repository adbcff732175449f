"""Paint a picture in the style of another.

The pixels are what is optimised, with L-BFGS: the layers of a convolutional network should see in
them what they see in one picture, and in their statistics, which features occur together, those of
the other. (Gatys, Ecker and Bethge, "Image style transfer using convolutional neural networks",
2016.) The network is VGG-19 (Simonyan and Zisserman, 2015). It has random weights, which do
surprisingly well (He, Wang and Hopcroft, "A powerful generative model using random weights for the
deep image representation", 2016), or those of torchvision's file, `--weights`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import braze
from braze import nn, optim

# Of ImageNet's colours, red, green and blue.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Channels of VGG-19's convolutions, block by block, as far as they are needed.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512))
STYLE = ("1_1", "2_1", "3_1", "4_1")


class VGG(nn.Module):
    """The first blocks of VGG-19, with torchvision's names of the parameters.

    content: the name of another layer to look at, beside those in STYLE.
    """

    def __init__(self, content):
        super().__init__()
        layers, before = [], 3
        self.names = {}  # of the places of what is looked at, behind a ReLU
        for number, widths in enumerate(BLOCKS, 1):
            if number > 1:
                layers.append(nn.AvgPool2d(2))
            for position, width in enumerate(widths, 1):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                name, before = f"{number}_{position}", width
                if name == content or name in STYLE:
                    self.names[len(layers) - 1] = name
        self.features = nn.Sequential(*layers[: max(self.names) + 1])
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.requires_grad_(False)

    def forward(self, x):
        """Pictures [batch, 3, h, w] in 0..1 to {name of a layer: features [batch, c, h', w']}."""
        mean, std = (braze.tensor(v, device=x.device)[:, None, None] for v in (MEAN, STD))
        x, seen = (x - mean) / std, {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.names:
                seen[self.names[place]] = x
        return seen


def statistics(features):
    """Of channels [1, c, h, w]: their means [c], and how they vary together, [c, c]."""
    flat = features.flatten(2)[0]
    mean = flat.mean(dim=1)
    flat = flat - mean[:, None]
    return mean, flat @ flat.T / flat.shape[1]


def relative(ours, wanted):
    """The squared distance as a share of the squared length."""
    return (ours - wanted).square().sum() / wanted.square().sum()


def roughness(picture):
    """The mean squared difference of neighbouring pixels."""
    down, across = picture.diff(dim=2), picture.diff(dim=3)
    return down.square().mean() + across.square().mean()


def read(path, size):
    """A picture as [1, 3, h, w] in 0..1, its longer side of `size` pixels."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255
    return braze.from_numpy(np.ascontiguousarray(pixels))


class Loss(nn.Module):
    """How far a picture is from what one picture shows, and from another one's style.

    Args:
        content, style: the pictures [1, 3, h, w].
        layer: whose features count for the content.
    """

    def __init__(self, model, content, style, layer):
        super().__init__()
        self.model, self.layer = model, layer
        with braze.no_grad():
            self.content = model(content)[layer]
            seen = model(style)
            self.statistics = {name: statistics(seen[name]) for name in STYLE}
            self.roughness = roughness(content)

    def forward(self, picture):
        """Both distances, as shares of the squared lengths, and how much rougher it is: [3]."""
        seen = self.model(picture)
        styles = [
            relative(ours, wanted)
            for name, both in self.statistics.items()
            for ours, wanted in zip(statistics(seen[name]), both, strict=True)
        ]
        content = relative(seen[self.layer], self.content)
        rougher = roughness(picture) / self.roughness
        return braze.stack([content, braze.stack(styles).mean(), rougher])


def draw(pictures, path):
    """Pictures [1, 3, h, w] beside each other, in the height of the first."""
    height, images = pictures[0].shape[2], []
    for picture in pictures:
        pixels = picture.detach()[0].permute(1, 2, 0).mul(255).round().cpu().numpy()
        image = Image.fromarray(pixels.astype(np.uint8))
        images.append(image.resize((image.width * height // image.height, height)))
    sheet = Image.new("RGB", (sum(image.width for image in images), height))
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width
    sheet.save(path)


def shipped(name):
    """A picture that comes with scikit-image."""
    import skimage

    return Path(skimage.__file__).parent / "data" / name


def main(argv=None):
    parser = argparse.ArgumentParser(description="Paint a picture in the style of another.")
    parser.add_argument("--content", metavar="FILE", help="what to paint; else a cat")
    parser.add_argument("--style", metavar="FILE", help="how; else stained tissue")
    parser.add_argument("--weights", metavar="FILE", help="torchvision's vgg19-dcbb9e9d.pth")
    layers = [f"{b}_{c}" for b, widths in enumerate(BLOCKS, 1) for c in range(1, len(widths) + 1)]
    parser.add_argument("--layer", default="3_1", choices=layers, help="of the content")
    parser.add_argument("--style-weight", type=float, default=5.0)
    parser.add_argument("--smoothness", type=float, default=0.02)
    parser.add_argument("--size", type=int, default=192, help="pixels of the longer side")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--evaluations", type=int, default=20, help="of the loss in an epoch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--picture", metavar="FILE", help="draw content, style and result")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    model = VGG(args.layer)
    if args.weights:
        weights = braze.load(args.weights)
        model.load_state_dict({name: weights[name] for name in model.state_dict()})
    model = model.to(args.device)
    content = read(args.content or shipped("chelsea.png"), args.size).to(args.device)
    style = read(args.style or shipped("ihc.png"), args.size).to(args.device)
    loss = Loss(model, content, style, args.layer)
    logits = nn.Parameter(braze.logit(content, eps=0.02))  # of the pixels, which stay in 0..1
    optimizer = optim.LBFGS(
        [logits],
        max_iter=args.evaluations,
        max_eval=args.evaluations,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    weights = [1.0, args.style_weight, args.smoothness]
    weights = braze.tensor(weights, device=args.device)
    done = 0
    if args.resume:
        checkpoint = braze.load(args.resume)
        with braze.no_grad():
            logits.copy_(checkpoint["logits"].to(args.device))
        optimizer.load_state_dict(checkpoint["optimizer"])
        done = checkpoint["epoch"]

    def evaluate():
        optimizer.zero_grad()
        # For each number of the picture: L-BFGS takes no notice of changes that are too small.
        total = logits.numel() * (loss(logits.sigmoid()) * weights).sum()
        total.backward()
        progress.update()
        return total

    distances = distances_of(loss, logits)
    print(f"content {distances[0]:.4f}, style {distances[1]:.4f} at the start", flush=True)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        with tqdm(total=args.evaluations, leave=False, disable=None) as progress:
            optimizer.step(evaluate)
        seconds = time.perf_counter() - start
        distances = distances_of(loss, logits)
        print(
            f"epoch {epoch}/{args.epochs}: content {distances[0]:.4f}, "
            f"style {distances[1]:.4f}, {seconds:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"logits": logits.detach().cpu(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch}, args.save)
    if args.picture:
        draw([content, style, logits.sigmoid()], args.picture)
    return distances


@braze.no_grad()
def distances_of(loss, logits):
    return loss(logits.sigmoid())[:2].tolist()


if __name__ == "__main__":
    main()
