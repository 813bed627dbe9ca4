#include "common/main.h"
#include "commands.h"

int main(int argc, char** argv) {
  using namespace bitstrata::cli;
  return run_main(argc, argv, [&](CLI::App& app) {
    forward_train_command(argc, argv);
    add_eval(app);
    add_run(app);
    add_bench(app);
    add_inspect(app);
    add_profile(app);
    add_export(app);
    add_compile(app);
    add_report(app);
    add_train_commands(app);
    add_docs(app);
  });
}
