// Writes fuzz/onnx_seeds/*.textproto as .onnx files: make_onnx_seeds FOLDER.

#include <google/protobuf/text_format.h>
#include <onnx/onnx_pb.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "core/error.h"
#include "core/file.h"

int main(int argc, char** argv) {
  using namespace bitstrata;
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  try {
    const std::filesystem::path folder = argv[1];
    make_folders(folder);
    for (const auto& entry : std::filesystem::directory_iterator(BITSTRATA_SOURCE_DIR "/fuzz/onnx_seeds")) {
      ::onnx::ModelProto model;
      if (!google::protobuf::TextFormat::ParseFromString(read_text_file(entry.path()), &model)) {
        fail(ErrorCode::kCorruptFile, "{} is not a text-format ModelProto", entry.path().string());
      }
      write_file_atomically(folder / entry.path().stem().concat(".onnx"), model.SerializeAsString());
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
