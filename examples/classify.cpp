// classify MODEL.bst IMAGE.f32: prints what the network says about one image, given as raw float32 in the
// order [C, H, W], already normalised.
#include <algorithm>
#include <bitstrata/bitstrata.hpp>
#include <cstdio>
#include <exception>
#include <fstream>
#include <vector>

namespace {

std::vector<float> read_floats(const char* path, size_t count) {
  std::vector<float> values(count);
  const auto bytes = static_cast<std::streamsize>(count * sizeof(float));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(values.data()), bytes);
  if (file.gcount() != bytes || file.peek() != std::ifstream::traits_type::eof())
    throw std::runtime_error(std::string(path) + ": expected " + std::to_string(count) + " float32 values");
  return values;
}

void classify(const char* model_path, const char* image_path) {
  const auto model = bitstrata::Model::load(model_path);
  const std::vector<float> image = read_floats(image_path, model.input().element_count);
  bitstrata::Session session(model);
  const std::vector<float> scores = session.run(1, image).front();

  for (size_t i = 0; i < scores.size(); ++i) std::printf("%zu %.9g\n", i, scores[i]);
  const auto best = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  const bool is_named = best < model.info().class_count;
  std::printf("class %zu: %s\n", best, is_named ? model.class_name(best).c_str() : "without a name");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: classify MODEL.bst IMAGE.f32\n");
    return 2;
  }
  try {
    classify(argv[1], argv[2]);
    return 0;
  } catch (const bitstrata::Error& error) {
    std::fprintf(stderr, "classify: %s (%s)\n", error.what(), error.code_name());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "classify: %s\n", error.what());
  }
  return 1;
}
