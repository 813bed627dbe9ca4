#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace onnx {
class GraphProto;
class TensorProto;
}  // namespace onnx

namespace bitstrata::onnx {

/// The integers behind a dequantized constant: element i is scales[i] * integers[i].
struct GridPoints {
  std::vector<int32_t> integers;
  std::vector<float> scales;
};

/// A constant of the file, widened: floating types are held as float32, integer and boolean ones as int64.
struct Tensor {
  bool is_float = true;
  std::vector<int64_t> dims;               ///< each >= 0; empty for a scalar
  std::vector<float> floats;               ///< row-major elements when is_float
  std::vector<int64_t> ints;               ///< row-major elements otherwise
  int element_type = 0;                    ///< in the file; 0: computed
  std::shared_ptr<const GridPoints> grid;  ///< of floats that a quantizer made and only movement followed

  int64_t elems() const noexcept { return static_cast<int64_t>(is_float ? floats.size() : ints.size()); }

  static Tensor of_ints(std::vector<int64_t> values);
  static Tensor of_scalar(int64_t value);
  static Tensor of_floats(std::vector<float> values, std::vector<int64_t> dims);
};

/// What may still be materialised while importing one file, so that a small file cannot ask for unbounded
/// memory or time.
class Budget {
 public:
  explicit Budget(int64_t elems) : left_(elems) {}
  /// kUnsupported, naming `where`, when fewer than `elems` elements are left.
  void take(int64_t elems, const std::string& where);

 private:
  int64_t left_;
};

/// Product of `dims`. kCorruptFile, naming `where`, when one is negative or the product exceeds
/// program::kMaxElements.
int64_t count_elems(const std::vector<int64_t>& dims, const std::string& where);

/// Decodes an initialiser or attribute tensor. `folder` holds external data; without one it is refused.
/// Errors name the tensor: kCorruptFile (sizes contradict, external data out of range), kUnsupported (element
/// type, location), kIo.
Tensor decode(const ::onnx::TensorProto& proto, const std::optional<std::filesystem::path>& folder,
              const std::string& file);

/// Bytes of the distinct files in `folder` that hold the external data of a graph's initialisers; those that
/// are missing count 0.
int64_t external_bytes(const ::onnx::GraphProto& graph, const std::filesystem::path& folder);

/// ONNX's name of an element type, for messages.
std::string element_type_name(int type);

/// True for float, double, float16 and bfloat16.
bool is_float_type(int type) noexcept;

/// True for bool and the integer types of 8 to 64 bits.
bool is_integer_type(int type) noexcept;

/// Bits of one element of an integer type that quantizers use (2, 4, 8, 16 or 32 bits), and whether it is
/// signed; 0 bits for other types.
struct IntegerType {
  int bits = 0;
  bool is_signed = false;
};
IntegerType integer_type(int type) noexcept;

}  // namespace bitstrata::onnx
