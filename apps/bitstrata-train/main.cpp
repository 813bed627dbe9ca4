#include "common/describe.h"
#include "common/main.h"
#include "commands.h"

int main(int argc, char** argv) {
  using namespace bitstrata::cli;
  return run_main(argc, argv, [](CLI::App& app) {
    add_compress(app);
    add_compare(app);
    add_train(app);
    add_verify(app);
    add_describe(app);
  });
}
