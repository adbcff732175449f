"""`torch`, where this folder's parent is on `sys.path`: an alias of Braze."""

if __name__ == "torch":
    from braze.as_torch import install

    install()
