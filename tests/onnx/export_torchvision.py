#!/usr/bin/python3
"""Exports torchvision classifiers with seeded random weights to ONNX, as material for the importer's judge test.

usage: export_torchvision.py OUT_DIR [NAME...]      writes OUT_DIR/NAME.onnx, one per entry of NETWORKS

Weights are random but scaled so that activations keep their size; batch-norm statistics are randomised so that a wrong
normalisation shows. Exits with 77 when torchvision is missing.
"""

import os
import sys
import warnings

try:
    import torch
    import torchvision
except ImportError as error:
    print(f"skipped: {error}", file=sys.stderr)
    sys.exit(77)

# name: (torchvision constructor, keyword arguments, keep batch-norm nodes, dynamic batch, opset)
NETWORKS = {
    "resnet18": ("resnet18", {}, False, True, 13),
    "resnet50": ("resnet50", {}, True, False, 13),
    "resnext50_32x4d": ("resnext50_32x4d", {}, False, True, 11),
    "vgg11_bn": ("vgg11_bn", {}, True, True, 13),
    "mobilenet_v2": ("mobilenet_v2", {}, True, True, 9),
    "mobilenet_v3_small": ("mobilenet_v3_small", {}, False, True, 14),
    "squeezenet1_1": ("squeezenet1_1", {}, False, True, 13),
    "densenet121": ("densenet121", {}, True, True, 13),
    "shufflenet_v2_x1_0": ("shufflenet_v2_x1_0", {}, False, True, 13),
    "shufflenet_v2_x1_0_static": ("shufflenet_v2_x1_0", {}, True, False, 11),
    "efficientnet_b0": ("efficientnet_b0", {}, False, True, 13),
    "mnasnet1_0": ("mnasnet1_0", {}, True, True, 17),
    "regnet_y_400mf": ("regnet_y_400mf", {}, False, True, 13),
    "googlenet": ("googlenet", {"transform_input": False, "aux_logits": False, "init_weights": False}, False, True, 13),
    "googlenet_transform": ("googlenet", {"transform_input": True, "aux_logits": False, "init_weights": False}, True, True, 13),
}


def randomise(model):
    """Kaiming weights and batch-norm statistics away from their defaults."""
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.uniform_(module.bias, -0.1, 0.1)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.5)


def export(name, folder):
    constructor, arguments, keep_batch_norm, dynamic, opset = NETWORKS[name]
    torch.manual_seed(0)
    model = getattr(torchvision.models, constructor)(weights=None, **arguments)
    randomise(model)
    model.eval()
    temporary = os.path.join(folder, name + ".tmp")
    torch.onnx.export(
        model,
        torch.zeros(1, 3, 224, 224),
        temporary,
        opset_version=opset,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}} if dynamic else None,
        do_constant_folding=not keep_batch_norm,
        training=torch.onnx.TrainingMode.PRESERVE if keep_batch_norm else torch.onnx.TrainingMode.EVAL,
    )
    os.replace(temporary, os.path.join(folder, name + ".onnx"))


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in sys.argv[2:] or NETWORKS:
        if not os.path.exists(os.path.join(folder, name + ".onnx")):
            export(name, folder)
            print(name, flush=True)


if __name__ == "__main__":
    main()
