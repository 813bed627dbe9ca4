#include "data/npy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/file.h"
#include "data/memory.h"

namespace bitstrata::data {
namespace {

constexpr uint8_t kMagic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
constexpr size_t kMaxHeaderBytes = 1u << 16;
constexpr size_t kMaxRank = 32;

/// Reads the dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } that NumPy writes as
/// Python source.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  /// Fills all of `array` but its bytes.
  void parse(NpyArray& array) {
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !has_descr)
        has_descr = true, parse_descr(array);
      else if (key == "fortran_order" && !has_order)
        has_order = true, parse_order();
      else if (key == "shape" && !has_shape)
        has_shape = true, parse_shape(array);
      else
        corrupt("key '" + key + "'");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (position_ != text_.size()) corrupt("text after the dictionary");
    if (!has_descr || !has_order || !has_shape) corrupt("no descr, fortran_order or shape");
  }

 private:
  [[noreturn]] void corrupt(const std::string& what) const {
    fail(ErrorCode::kCorruptFile,
         "{} is not a valid .npy file: unexpected {} at character {} of its header; save it again",
         printable(name_), printable(what), position_);
  }
  void skip_blanks() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n')) ++position_;
  }
  bool accept(char c) {
    skip_blanks();
    if (position_ >= text_.size() || text_[position_] != c) return false;
    ++position_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) corrupt(std::string("text, expected '") + c + "'");
  }
  std::string quoted() {
    skip_blanks();
    if (position_ >= text_.size() || (text_[position_] != '\'' && text_[position_] != '"'))
      corrupt("unquoted text");
    const size_t end = text_.find(text_[position_], position_ + 1);
    if (end == std::string_view::npos) corrupt("open quote");
    const std::string content(text_.substr(position_ + 1, end - position_ - 1));
    position_ = end + 1;
    return content;
  }
  bool accept_word(std::string_view word) {
    skip_blanks();
    if (text_.substr(position_, word.size()) != word) return false;
    position_ += word.size();
    return true;
  }

  void parse_descr(NpyArray& array) {
    skip_blanks();
    const bool is_simple = position_ < text_.size() && text_[position_] != '[';
    const std::string descr = is_simple ? quoted() : "structured";
    const auto is_one_of = [&](std::initializer_list<const char*> names) {
      return std::any_of(names.begin(), names.end(), [&](const char* each) { return descr == each; });
    };
    if (!is_one_of(
            {"<f2", "<f4", "<f8", "|i1", "<i1", "|u1", "<u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"})) {
      fail(ErrorCode::kUnsupported,
           "{} has elements of type '{}', expected little-endian floats or integers such as '<f4'; convert "
           "with "
           "array.astype('<f4')",
           printable(name_), printable(descr));
    }
    array.kind = descr[1];
    array.item_bytes = descr[2] - '0';
  }
  void parse_order() {
    if (accept_word("False")) return;
    if (!accept_word("True")) corrupt("value of fortran_order");
    fail(ErrorCode::kUnsupported,
         "{} is in Fortran order, expected C order; save numpy.ascontiguousarray(array)", printable(name_));
  }
  void parse_shape(NpyArray& array) {
    array.shape.clear();
    expect('(');
    while (!accept(')')) {
      if (array.shape.size() == kMaxRank) corrupt("number of dimensions");
      array.shape.push_back(number());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
  }
  int64_t number() {
    skip_blanks();
    int64_t value = 0;
    const size_t begin = position_;
    for (; position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9'; ++position_) {
      if (value > (int64_t{1} << 48)) corrupt("dimension");
      value = value * 10 + (text_[position_] - '0');
    }
    if (position_ == begin) corrupt("text, expected a number");
    return value;
  }

  std::string_view text_;
  const std::string& name_;
  size_t position_ = 0;
};

/// Bytes that the elements take; an impossible count saturates, so that it never equals a file's size.
uint64_t checked_data_bytes(const NpyArray& array) {
  uint64_t bytes = static_cast<uint64_t>(array.item_bytes);
  for (const int64_t extent : array.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes))
      return std::numeric_limits<uint64_t>::max();
  }
  return bytes;
}

template <typename T>
std::vector<T> elements(const NpyArray& array) {
  std::vector<T> values(array.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), array.bytes.data(), values.size() * sizeof(T));
  return values;
}

template <typename T>
std::vector<int64_t> widen(const NpyArray& array) {
  const auto values = elements<T>(array);
  return {values.begin(), values.end()};
}

std::vector<int64_t> widen_u64(const NpyArray& array, const std::string& where) {
  const auto values = elements<uint64_t>(array);
  for (const uint64_t value : values) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      fail(ErrorCode::kBadInput, "{} holds {}, which is out of range", printable(where), value);
    }
  }
  return {values.begin(), values.end()};
}

}  // namespace

int64_t NpyArray::num_elems() const noexcept {
  return static_cast<int64_t>(bytes.size()) / item_bytes;
}

std::string NpyArray::dtype() const {
  return fmt::format("{}{}{}", item_bytes == 1 ? '|' : '<', kind, item_bytes);
}

std::vector<int64_t> NpyArray::to_int64(const std::string& where) const {
  if (kind != 'i' && kind != 'u') {
    fail(ErrorCode::kBadInput, "{} has type '{}', expected integers", printable(where), dtype());
  }
  const bool is_signed = kind == 'i';
  switch (item_bytes) {
    case 1:
      return is_signed ? widen<int8_t>(*this) : widen<uint8_t>(*this);
    case 2:
      return is_signed ? widen<int16_t>(*this) : widen<uint16_t>(*this);
    case 4:
      return is_signed ? widen<int32_t>(*this) : widen<uint32_t>(*this);
    default:
      return is_signed ? widen<int64_t>(*this) : widen_u64(*this, where);
  }
}

std::vector<float> NpyArray::to_float(const std::string& where) const {
  if (kind != 'f' || item_bytes != 4) {
    fail(ErrorCode::kBadInput, "{} has type '{}', expected float32 ('<f4'); convert with array.astype('<f4')",
         printable(where), dtype());
  }
  auto values = elements<float>(*this);
  const auto bad =
      std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (bad != values.end()) {
    fail(ErrorCode::kBadInput, "{} holds {} at element {}, expected finite numbers", printable(where), *bad,
         bad - values.begin());
  }
  return values;
}

bool is_npy(std::span<const uint8_t> bytes) noexcept {
  return bytes.size() >= sizeof(kMagic) && std::equal(std::begin(kMagic), std::end(kMagic), bytes.begin());
}

NpyArray parse_npy(std::span<const uint8_t> bytes, const std::string& name) {
  const auto need = [&](size_t count_bytes, const char* what) {
    if (bytes.size() < count_bytes) {
      fail(ErrorCode::kCorruptFile,
           "{} is truncated: found {} bytes, expected at least {} for {}; save it again", printable(name),
           bytes.size(), count_bytes, what);
    }
  };
  if (!is_npy(bytes))
    fail(ErrorCode::kCorruptFile, "{} is not a .npy file: it does not start with \\x93NUMPY",
         printable(name));
  need(10, "the preamble");
  const int major = bytes[6], minor = bytes[7];
  if ((major != 1 && major != 2) || minor != 0) {
    fail(ErrorCode::kUnsupported, "{} has .npy version {}.{}, expected 1.0 or 2.0", printable(name), major,
         minor);
  }
  const size_t preamble_bytes = major == 1 ? 10 : 12;
  need(preamble_bytes, "the preamble");
  size_t header_bytes = 0;
  for (size_t i = preamble_bytes; i-- > 8;) header_bytes = header_bytes << 8 | bytes[i];
  if (header_bytes > kMaxHeaderBytes) {
    fail(ErrorCode::kCorruptFile, "{} claims a header of {} bytes, expected at most {}; save it again",
         printable(name), header_bytes, kMaxHeaderBytes);
  }
  need(preamble_bytes + header_bytes, "the header");

  NpyArray array;
  const auto* text = reinterpret_cast<const char*>(bytes.data() + preamble_bytes);
  HeaderParser({text, header_bytes}, name).parse(array);
  const auto data = bytes.subspan(preamble_bytes + header_bytes);
  if (const uint64_t expected_bytes = checked_data_bytes(array); expected_bytes != data.size()) {
    fail(ErrorCode::kCorruptFile,
         "{} is {}: found {} bytes of elements, expected {} for shape {} of '{}'; save it again",
         printable(name), data.size() < expected_bytes ? "truncated" : "too long", data.size(),
         expected_bytes, to_string(array.shape), array.dtype());
  }
  array.bytes.assign(data.begin(), data.end());
  return array;
}

NpyArray read_npy(const std::filesystem::path& path) {
  return parse_npy(read_file(path, memory_bytes()), path.string());
}

std::vector<uint8_t> serialize_npy(const NpyArray& array) {
  std::string shape;
  for (const int64_t extent : array.shape) shape += fmt::format("{}, ", extent);
  if (array.shape.size() > 1)
    shape.resize(shape.size() - 2);
  else if (array.shape.size() == 1)
    shape.resize(shape.size() - 1);
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", array.dtype(), shape);
  constexpr size_t kPreambleBytes = 10, kAlignBytes = 64;
  header.resize((kPreambleBytes + header.size() + kAlignBytes) / kAlignBytes * kAlignBytes - kPreambleBytes,
                ' ');
  header.back() = '\n';

  std::vector<uint8_t> bytes;
  bytes.reserve(kPreambleBytes + header.size() + array.bytes.size());
  for (const uint8_t byte : kMagic) bytes.push_back(byte);
  bytes.push_back(1);
  bytes.push_back(0);
  bytes.push_back(static_cast<uint8_t>(header.size() & 255));
  bytes.push_back(static_cast<uint8_t>(header.size() >> 8));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), array.bytes.begin(), array.bytes.end());
  return bytes;
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               std::span<const float> values) {
  NpyArray array;
  array.shape = shape;
  const auto value_bytes = std::as_bytes(values);
  if (checked_data_bytes(array) != value_bytes.size()) {
    fail(ErrorCode::kInvalidArgument, "cannot write {}: found {} values for shape {}",
         printable(path.string()), values.size(), to_string(shape));
  }
  const auto* begin = reinterpret_cast<const uint8_t*>(values.data());
  array.bytes.assign(begin, begin + value_bytes.size());
  write_file_atomically(path, serialize_npy(array));
}

std::string to_string(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace bitstrata::data
