// Writes the small valid .bst files that bst_fuzz starts from: make_seeds FOLDER.

#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "core/file.h"
#include "format/bst.h"
#include "format/container.h"
#include "format/metadata.h"
#include "tests/unit/format/sample_programs.h"

int main(int argc, char** argv) {
  using namespace bitstrata;
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  try {
    const std::filesystem::path folder = argv[1];
    make_folders(folder);
    const auto tiny = format::tiny_program(), every_kind = format::every_kind_program();
    format::write(folder / "tiny.bst", tiny);
    format::write(folder / "every-kind.bst", every_kind);
    for (const auto* program : {&tiny, &every_kind}) {
      const auto bytes = format::pack_sections(format::write_program(*program), format::Compression::kNone);
      write_file_atomically(folder / (program == &tiny ? "tiny-stored.bst" : "every-kind-stored.bst"), bytes);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
