#include "data/input.h"

#include "core/error.h"
#include "core/file.h"
#include "data/memory.h"
#include "data/npy.h"
#include "data/resize.h"

namespace bitstrata::data {
namespace {

Input from_array(const NpyArray& array, const ImageShape& wanted, const std::string& name) {
  const auto& shape = array.shape;
  const auto fits = [](int64_t found, int extent) {
    return found >= 1 && found <= kMaxImageSide && (extent == 0 || found == extent);
  };
  const size_t rank = shape.size();
  const bool is_valid = (rank == 3 || (rank == 4 && shape[0] >= 1)) &&
                        fits(shape[rank - 3], wanted.channels) && fits(shape[rank - 2], wanted.height) &&
                        fits(shape[rank - 1], wanted.width);
  if (!is_valid) {
    const auto extent = [](int value, const char* any) {
      return value == 0 ? std::string(any) : std::to_string(value);
    };
    const std::string sample = fmt::format("{}, {}, {}", extent(wanted.channels, "C"),
                                           extent(wanted.height, "H"), extent(wanted.width, "W"));
    fail(ErrorCode::kBadInput, "{} has shape {}, expected [{}] or [N, {}]", printable(name), to_string(shape),
         sample, sample);
  }
  Input input;
  input.count = rank == 4 ? shape[0] : 1;
  input.shape = {static_cast<int>(shape[rank - 3]), static_cast<int>(shape[rank - 2]),
                 static_cast<int>(shape[rank - 1])};
  input.values = array.to_float(name);
  return input;
}

Input from_image(const Image& image, const ImageShape& wanted, const Normalization& normalization,
                 const std::string& name) {
  Input input;
  input.count = 1;
  input.shape = resolve_shape(wanted, image.shape, name);
  const auto table = normalization_table(normalization, input.shape.channels);
  std::vector<uint8_t> pixels(input.shape.num_elems());
  fit_image(image.pixels.data(), image.shape, pixels.data(), input.shape);
  const size_t plane_elems = pixels.size() / static_cast<size_t>(input.shape.channels);
  input.values.resize(pixels.size());
  for (size_t i = 0; i < pixels.size(); ++i) input.values[i] = table[i / plane_elems * 256 + pixels[i]];
  return input;
}

}  // namespace

Input load_input(const std::filesystem::path& path, const ImageShape& shape,
                 const Normalization& normalization) {
  const std::string name = path.string();
  const auto bytes = read_file(path, memory_bytes());
  if (is_npy(bytes)) return from_array(parse_npy(bytes, name), shape, name);
  if (bytes.size() > kMaxImageFileBytes) {
    fail(ErrorCode::kBadInput, "{} has {} bytes, expected an image of at most {} or a .npy file",
         printable(name), bytes.size(), kMaxImageFileBytes);
  }
  return from_image(decode_image(bytes, name), shape, normalization, name);
}

}  // namespace bitstrata::data
