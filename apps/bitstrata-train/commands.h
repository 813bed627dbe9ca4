#pragma once

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// Each adds one subcommand to the program.
void add_compare(CLI::App& app);
void add_compress(CLI::App& app);
void add_train(CLI::App& app);
void add_verify(CLI::App& app);

}  // namespace bitstrata::cli
