// The program yoso.
// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <new>
#include <string>

#include "yoso/cli/commands.h"

namespace {

constexpr int kFailed = 1, kUsage = 2, kInterrupted = 130;

// Of a message of several lines, the first says what is wrong.
int report(const std::string& message, int code) {
  std::cerr << "yoso: " << message.substr(0, message.find('\n')) << '\n';
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  // A file that grows beyond a limit is an error of its writer, with a message, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  // Tensors on large pages where the system grants them: rows are read in random order, and small
  // pages are slow to find. THP_MEM_ALLOC_ENABLE=0 in the environment turns it off, to compare.
  setenv("THP_MEM_ALLOC_ENABLE", "1", /*overwrite=*/0);

  CLI::App app(
      "YOSO: attention in linear time by hashing. Trains, evaluates and measures encoders with it.",
      "yoso");
  app.set_version_flag("--version", "yoso " YOSO_VERSION);
  app.require_subcommand(1);
  app.footer(
      "A first run, from nothing to a report:\n"
      "  yoso data listops --preset small --out data/listops_small\n"
      "  yoso train recipes/listops/yoso_small.toml\n"
      "  yoso evaluate runs/listops/yoso_small\n"
      "  echo '[MAX 2 [MIN 7 5 ] 1 ]' | yoso predict runs/listops/yoso_small\n"
      "`yoso COMMAND --help` explains a command with examples.");
  yoso::add_train_command(app);
  yoso::add_evaluate_command(app);
  yoso::add_predict_command(app);
  yoso::add_convert_command(app);
  yoso::add_data_command(app);
  yoso::add_bench_command(app);
  yoso::add_report_command(app);
  yoso::add_lra_command(app);
  yoso::add_info_command(app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::string command = "yoso";
    for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
    return report(std::string(error.what()) + "; see " + command + " --help", kUsage);
  } catch (const yoso::Interrupted& stop) {
    return report(stop.what(), kInterrupted);
  } catch (const yoso::Error& error) {
    return report(error.what(), kFailed);
  } catch (const c10::OutOfMemoryError&) {
    return report("GPU memory: this does not fit; a smaller batch or --device cpu may", kFailed);
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace(), kFailed);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kFailed);
  } catch (const std::exception& error) {
    return report(error.what(), kFailed);
  }
  return 0;
}
