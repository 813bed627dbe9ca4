#!/usr/bin/python3
"""Makes an int8 copy of a float ONNX network in the form that ONNX Runtime runs fastest: QuantizeLinear and DequantizeLinear around
everything, weights signed and per output channel, activations unsigned per tensor. For timing only: the activation scale is a constant.

usage: quantize_onnx.py FLOAT.onnx INT8.onnx      Convolutional networks with batch norms folded; other operators stay float.
"""

import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

ACTIVATION_SCALE = 0.02
LAYERS = {"Conv", "Gemm"}
ARITHMETIC = LAYERS | {"Relu", "Add", "GlobalAveragePool", "AveragePool", "ReduceMean"}
MOVEMENT = {"MaxPool", "Flatten", "Reshape", "Slice", "Pad"}


class Quantizer:
    def __init__(self, graph):
        self.graph = graph
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        # PyTorch shares equal parameters through Identity nodes.
        for node in graph.node:
            if node.op_type == "Identity" and node.input[0] in self.weights:
                self.weights[node.output[0]] = self.weights[node.input[0]]
        self.nodes, self.constants = [], {}
        self.readers = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.quantized = {}  # float tensor -> its rounded copy
        self.nonnegative = set()

    def constant(self, name, array):
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def add(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def parameter(self, name, codes, scale):
        """Codes of a weight or bias with one scale for each entry of axis 0, as a float tensor."""
        inputs = [
            self.constant(name + "/codes", codes),
            self.constant(name + "/scale", scale.astype(np.float32)),
            self.constant(name + "/zero", np.zeros(len(scale), codes.dtype)),
        ]
        return self.add("DequantizeLinear", inputs, name + "/rounded", axis=0)

    def layer(self, node):
        weights = self.weights[node.input[1]]
        axis = 1 if node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute) else 0
        if axis:
            raise SystemExit(f"quantize_onnx.py: {node.name}: Gemm with weights [in, out] is not supported; export with transB = 1")
        flat = weights.reshape(len(weights), -1)
        scale = np.abs(flat).max(1) / 127 + 1e-9
        codes = np.rint(flat / scale[:, None]).astype(np.int8).reshape(weights.shape)
        node.input[1] = self.parameter(node.input[1], codes, scale)
        if len(node.input) > 2:
            bias_scale = scale * ACTIVATION_SCALE
            codes = np.clip(np.rint(self.weights[node.input[2]] / bias_scale), -(2**30), 2**30).astype(np.int32)
            node.input[2] = self.parameter(node.input[2], codes, bias_scale)

    def activation(self, name):
        """Rounds `name` behind its producer, except where a Relu or the caller reads it next."""
        readers = self.readers.get(name, [])
        if not readers or [node.op_type for node in readers] == ["Relu"]:
            self.quantized[name] = name
            return
        zero = 0 if name in self.nonnegative else 128
        parameters = [
            self.constant("activation/scale", np.float32(ACTIVATION_SCALE)),
            self.constant(f"activation/zero{zero}", np.uint8(zero)),
        ]
        codes = self.add("QuantizeLinear", [name] + parameters, name + "/codes")
        self.quantized[name] = self.add("DequantizeLinear", [codes] + parameters, name + "/rounded")

    def run(self):
        self.activation(self.graph.input[0].name)
        for original in self.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            quantizable = node.op_type in ARITHMETIC | MOVEMENT and node.input[0] in self.quantized
            if node.op_type in LAYERS and quantizable:
                self.layer(node)
            for i, name in enumerate(node.input):
                node.input[i] = self.quantized.get(name, name)
            self.nodes.append(node)
            if quantizable:
                name = node.output[0]
                data = [source for source in original.input if source in self.quantized]
                if node.op_type == "Relu" or (node.op_type not in LAYERS and all(source in self.nonnegative for source in data)):
                    self.nonnegative.add(name)
                self.activation(name)

    def write_back(self):
        used = {name for node in self.nodes for name in node.input} | {output.name for output in self.graph.output}
        nodes = [node for node in self.nodes if any(name in used for name in node.output)]
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(kept + [tensor for name, tensor in self.constants.items() if name in used])


def main():
    model = onnx.load(sys.argv[1])
    quantizer = Quantizer(model.graph)
    quantizer.run()
    quantizer.write_back()
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[2])


if __name__ == "__main__":
    main()
