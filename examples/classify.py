#!/usr/bin/env python3
"""classify.py MODEL.bst IMAGE.f32: prints what the network says about one image, given as raw float32 in the order [C, H, W],
already normalised."""

import sys

import numpy

import bitstrata


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: classify.py MODEL.bst IMAGE.f32")
    model = bitstrata.Model(sys.argv[1])
    image = numpy.fromfile(sys.argv[2], dtype=numpy.float32).reshape(1, *model.input.shape)
    scores = bitstrata.Session(model).run(image)[0]

    for index, score in enumerate(scores):
        print(f"{index} {score:.9g}")
    best = int(scores.argmax())
    print(f"class {best}: {model.class_names[best] if model.class_names else 'without a name'}")


if __name__ == "__main__":
    try:
        main()
    except (bitstrata.Error, OSError, ValueError) as error:
        sys.exit(f"classify.py: {error}")
