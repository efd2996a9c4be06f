// The subcommands of the program yoso: each adds itself, options and action, to the program.
// Actions throw Error; main prints it as one line and exits with 1.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/core/check.h"

namespace CLI {
class App;
}

namespace yoso {

// The user asked to stop and all is saved: main prints it likewise and exits with 130.
class Interrupted : public Error {
 public:
  using Error::Error;
};

void add_train_command(CLI::App& app);
void add_evaluate_command(CLI::App& app);
void add_predict_command(CLI::App& app);
void add_convert_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_lra_command(CLI::App& app);
void add_report_command(CLI::App& app);

}  // namespace yoso
