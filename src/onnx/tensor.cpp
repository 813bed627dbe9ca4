#include "onnx/tensor.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
#include <utility>

#include "core/error.h"
#include "onnx/proto.h"
#include "program/program.h"

namespace bitstrata::onnx {

static_assert(std::endian::native == std::endian::little, "raw tensor data is copied as it lies");

namespace {

namespace fs = std::filesystem;

float from_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1.0p-24f;
    return sign != 0 ? -value : value;
  }
  const uint32_t wide = exponent == 31 ? 0xffu : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

// Numbers of TensorProto.DataType that are younger than the ONNX library.
constexpr int kUint4 = 21, kInt4 = 22, kUint2 = 25, kInt2 = 26;

float from_bfloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

template <typename Stored, typename Result, typename Convert>
std::vector<Result> convert_raw(const std::string& raw, int64_t elems, const std::string& where,
                                Convert convert) {
  if (raw.size() / sizeof(Stored) != static_cast<uint64_t>(elems) || raw.size() % sizeof(Stored) != 0) {
    fail(ErrorCode::kCorruptFile, "{}: {} bytes of data, expected {} for its dims", where, raw.size(),
         elems * static_cast<int64_t>(sizeof(Stored)));
  }
  std::vector<Result> values(elems);
  for (int64_t i = 0; i < elems; ++i) {
    Stored stored;
    std::memcpy(&stored, raw.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = convert(stored);
  }
  return values;
}

template <typename Result, typename Field, typename Convert>
std::vector<Result> convert_field(const Field& field, int64_t elems, const std::string& where,
                                  Convert convert) {
  if (field.size() != elems) {
    fail(ErrorCode::kCorruptFile, "{}: {} elements of data, expected {} for its dims", where, field.size(),
         elems);
  }
  std::vector<Result> values;
  values.reserve(elems);
  for (const auto& v : field) values.push_back(convert(v));
  return values;
}

/// The element data of one tensor, wherever it lies.
class Decoder {
 public:
  Decoder(const pb::TensorProto& proto, const std::string& external, std::string where)
      : proto_(proto), raw_(external.empty() ? proto.raw_data() : external), where_(std::move(where)) {
    is_raw_ = !external.empty() || proto.has_raw_data();
  }

  Tensor operator()() const {
    Tensor tensor;
    tensor.dims.assign(proto_.dims().begin(), proto_.dims().end());
    elems_ = count_elems(tensor.dims, where_);
    tensor.is_float = is_float_type(proto_.data_type());
    tensor.element_type = proto_.data_type();
    if (tensor.is_float) {
      tensor.floats = floats();
    } else {
      tensor.ints = ints();
    }
    return tensor;
  }

 private:
  template <typename Stored, typename Result, typename Field, typename Convert>
  std::vector<Result> read(const Field& field, Convert convert) const {
    if (is_raw_) return convert_raw<Stored, Result>(raw_, elems_, where_, convert);
    return convert_field<Result>(field, elems_, where_,
                                 [&](auto v) { return convert(static_cast<Stored>(v)); });
  }

  std::vector<float> floats() const {
    switch (proto_.data_type()) {
      case pb::TensorProto::FLOAT:
        return read<float, float>(proto_.float_data(), std::identity());
      case pb::TensorProto::DOUBLE:
        return read<double, float>(proto_.double_data(), [](double v) { return static_cast<float>(v); });
      case pb::TensorProto::FLOAT16:
        return read<uint16_t, float>(proto_.int32_data(), from_half);
      default:
        return read<uint16_t, float>(proto_.int32_data(), from_bfloat);
    }
  }

  std::vector<int64_t> ints() const {
    const auto widen = [](auto v) { return static_cast<int64_t>(v); };
    switch (proto_.data_type()) {
      case pb::TensorProto::INT64:
        return read<int64_t, int64_t>(proto_.int64_data(), widen);
      case pb::TensorProto::INT32:
        return read<int32_t, int64_t>(proto_.int32_data(), widen);
      case pb::TensorProto::INT16:
        return read<int16_t, int64_t>(proto_.int32_data(), widen);
      case pb::TensorProto::INT8:
        return read<int8_t, int64_t>(proto_.int32_data(), widen);
      case pb::TensorProto::UINT8:
        return read<uint8_t, int64_t>(proto_.int32_data(), widen);
      case pb::TensorProto::UINT16:
        return read<uint16_t, int64_t>(proto_.int32_data(), widen);
      case pb::TensorProto::UINT32:
        return read<uint32_t, int64_t>(proto_.uint64_data(), widen);
      case pb::TensorProto::UINT64:
        return read<uint64_t, int64_t>(proto_.uint64_data(), widen);
      case pb::TensorProto::BOOL:
        return read<uint8_t, int64_t>(proto_.int32_data(), [](uint8_t v) { return int64_t{v != 0}; });
      case kUint4:
      case kInt4:
      case kUint2:
      case kInt2:
        return packed(integer_type(proto_.data_type()));
      default:
        fail(ErrorCode::kUnsupported,
             "{}: element type {}, supported are the floating, integer and boolean ones", where_,
             element_type_name(proto_.data_type()));
    }
  }

  /// Several elements to a byte, the first in the lowest bits.
  std::vector<int64_t> packed(IntegerType type) const {
    const int64_t per_byte = 8 / type.bits;
    const int64_t bytes = (elems_ + per_byte - 1) / per_byte;
    const auto as_byte = [](auto v) { return static_cast<uint8_t>(v); };
    const std::vector<uint8_t> data =
        is_raw_ ? convert_raw<uint8_t, uint8_t>(raw_, bytes, where_, as_byte)
                : convert_field<uint8_t>(proto_.int32_data(), bytes, where_, as_byte);
    std::vector<int64_t> values(elems_);
    for (int64_t i = 0; i < elems_; ++i) {
      const int v = data[i / per_byte] >> (i % per_byte * type.bits) & ((1 << type.bits) - 1);
      const bool is_negative = type.is_signed && v >= 1 << (type.bits - 1);
      values[i] = is_negative ? v - (1 << type.bits) : v;
    }
    return values;
  }

  const pb::TensorProto& proto_;
  const std::string& raw_;
  std::string where_;
  bool is_raw_ = false;
  mutable int64_t elems_ = 0;
};

/// Where external data lies; -1: to the end of the file.
struct Extent {
  std::string location;
  int64_t offset = 0, length = -1;
};

int64_t parse_extent(const std::string& text, const std::string& where) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    fail(ErrorCode::kCorruptFile, "{}: external data at '{}', expected a number of bytes", where,
         printable(text));
  }
  return value;
}

Extent external_extent(const pb::TensorProto& proto, const std::string& where) {
  Extent extent;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") extent.location = entry.value();
    if (entry.key() == "offset") extent.offset = parse_extent(entry.value(), where);
    if (entry.key() == "length") extent.length = parse_extent(entry.value(), where);
  }
  return extent;
}

fs::path inside(const fs::path& folder, const std::string& location, const std::string& where) {
  const fs::path relative(location);
  bool escapes = location.empty() || location.find('\0') != std::string::npos || relative.has_root_path();
  for (const fs::path& part : relative) escapes = escapes || part == "..";
  if (escapes) {
    fail(ErrorCode::kUnsupported, "{}: external data in '{}', expected a file inside the model's folder",
         where, printable(location));
  }
  return folder / relative;
}

std::string read_external(const pb::TensorProto& proto, const fs::path& folder, const std::string& where) {
  const Extent extent = external_extent(proto, where);
  const fs::path path = inside(folder, extent.location, where);
  std::error_code error;
  const bool regular = fs::is_regular_file(path, error);
  const uint64_t size_bytes = regular ? fs::file_size(path, error) : 0;
  std::ifstream stream(path, std::ios::binary);
  if (error || !regular || !stream) {
    fail(ErrorCode::kIo, "{}: cannot read its external data file '{}'; keep it beside the model", where,
         printable(path.string()));
  }
  const uint64_t offset = extent.offset;
  const uint64_t length = extent.length >= 0 ? extent.length : size_bytes - std::min(size_bytes, offset);
  if (offset > size_bytes || length > size_bytes - offset) {
    fail(ErrorCode::kCorruptFile, "{}: external data at {} of {} bytes, but '{}' has {} bytes", where, offset,
         length, printable(path.string()), size_bytes);
  }
  std::string bytes(length, '\0');
  stream.seekg(extent.offset);
  stream.read(bytes.data(), static_cast<std::streamsize>(length));
  if (!stream) fail(ErrorCode::kIo, "{}: reading '{}' failed", where, printable(path.string()));
  return bytes;
}

}  // namespace

Tensor Tensor::of_ints(std::vector<int64_t> values) {
  Tensor tensor;
  tensor.is_float = false;
  tensor.dims = {static_cast<int64_t>(values.size())};
  tensor.ints = std::move(values);
  return tensor;
}

Tensor Tensor::of_scalar(int64_t value) {
  Tensor tensor = of_ints({value});
  tensor.dims.clear();
  return tensor;
}

Tensor Tensor::of_floats(std::vector<float> values, std::vector<int64_t> dims) {
  Tensor tensor;
  tensor.dims = std::move(dims);
  tensor.floats = std::move(values);
  return tensor;
}

void Budget::take(int64_t elems, const std::string& where) {
  if (elems > left_) {
    fail(ErrorCode::kUnsupported,
         "{}: constants of {} elements where {} are left; the file asks for far more memory than its size",
         printable(where), elems, left_);
  }
  left_ -= elems;
}

int64_t count_elems(const std::vector<int64_t>& dims, const std::string& where) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t d : dims) {
    if (d < 0 || d > program::kMaxElements || (d > 0 && product > program::kMaxElements / d)) {
      fail(ErrorCode::kCorruptFile, "{}: dims [{}], expected a product of 0 to {}", printable(where),
           fmt::join(dims, ", "), program::kMaxElements);
    }
    if (d == 0) empty = true;
    product *= std::max<int64_t>(d, 1);
  }
  return empty ? 0 : product;
}

Tensor decode(const pb::TensorProto& proto, const std::optional<fs::path>& folder, const std::string& file) {
  const std::string where = fmt::format("{}: tensor '{}'", printable(file), printable(proto.name()));
  if (!is_float_type(proto.data_type()) && !is_integer_type(proto.data_type())) {
    fail(ErrorCode::kUnsupported, "{}: element type {}, supported are the floating, integer and boolean ones",
         where, element_type_name(proto.data_type()));
  }
  if (proto.has_segment())
    fail(ErrorCode::kUnsupported, "{}: is stored in segments, expected whole tensors", where);
  if (proto.data_location() != pb::TensorProto::EXTERNAL) return Decoder(proto, std::string(), where)();
  if (!folder)
    fail(ErrorCode::kUnsupported, "{}: external data of a model in memory; import the file instead", where);
  const std::string external = read_external(proto, *folder, where);
  if (external.empty() && count_elems({proto.dims().begin(), proto.dims().end()}, where) != 0) {
    fail(ErrorCode::kCorruptFile, "{}: its external data is empty", where);
  }
  return Decoder(proto, external, where)();
}

int64_t external_bytes(const pb::GraphProto& graph, const fs::path& folder) {
  std::set<std::string> locations;
  for (const auto& tensor : graph.initializer()) {
    for (const auto& entry : tensor.external_data()) {
      if (entry.key() == "location") locations.insert(entry.value());
    }
  }
  int64_t total = 0;
  for (const std::string& location : locations) {
    std::error_code error;
    const auto size_bytes = fs::file_size(folder / fs::path(location), error);
    if (!error) total += static_cast<int64_t>(std::min<uint64_t>(size_bytes, program::kMaxElements * 8));
  }
  return total;
}

std::string element_type_name(int type) {
  if (pb::TensorProto::DataType_IsValid(type))
    return pb::TensorProto::DataType_Name(static_cast<pb::TensorProto::DataType>(type));
  return fmt::format("number {}", type);
}

bool is_float_type(int type) noexcept {
  return type == pb::TensorProto::FLOAT || type == pb::TensorProto::DOUBLE ||
         type == pb::TensorProto::FLOAT16 || type == pb::TensorProto::BFLOAT16;
}

bool is_integer_type(int type) noexcept {
  switch (type) {
    case pb::TensorProto::INT8:
    case pb::TensorProto::INT16:
    case pb::TensorProto::INT32:
    case pb::TensorProto::INT64:
    case pb::TensorProto::UINT8:
    case pb::TensorProto::UINT16:
    case pb::TensorProto::UINT32:
    case pb::TensorProto::UINT64:
    case pb::TensorProto::BOOL:
    case kUint4:
    case kInt4:
    case kUint2:
    case kInt2:
      return true;
    default:
      return false;
  }
}

IntegerType integer_type(int type) noexcept {
  switch (type) {
    case kUint2:
    case kInt2:
      return {2, type == kInt2};
    case kUint4:
    case kInt4:
      return {4, type == kInt4};
    case pb::TensorProto::UINT8:
    case pb::TensorProto::INT8:
      return {8, type == pb::TensorProto::INT8};
    case pb::TensorProto::UINT16:
    case pb::TensorProto::INT16:
      return {16, type == pb::TensorProto::INT16};
    case pb::TensorProto::INT32:
      return {32, true};
    default:
      return {};
  }
}

}  // namespace bitstrata::onnx
