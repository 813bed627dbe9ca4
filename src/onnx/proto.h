#pragma once

#include <onnx/onnx_pb.h>

/// ONNX's protobuf classes. Only .cpp files of this module and of its tests include this.
namespace bitstrata::onnx {
namespace pb = ::onnx;
}  // namespace bitstrata::onnx
