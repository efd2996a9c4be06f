// yoso lra: every task of the Long Range Arena with every way to attend, and the report of it.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/util/Exception.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "yoso/cli/commands.h"
#include "yoso/cli/device.h"
#include "yoso/cli/lra_methods.h"
#include "yoso/cli/lra_report.h"
#include "yoso/cli/lra_results.h"
#include "yoso/cli/machine.h"
#include "yoso/cli/progress.h"
#include "yoso/cli/training_process.h"
#include "yoso/core/file.h"
#include "yoso/train/checkpoint.h"
#include "yoso/train/loop.h"

namespace yoso {
namespace {

namespace fs = std::filesystem;

struct LraRun {
  std::string recipes = "recipes/lra", out = "runs/lra", preset = "full", device;
  std::vector<std::string> tasks, methods, set;
  std::vector<int64_t> seeds = {0};
  int64_t shorten = 1;
};

// A run of the suite; where it goes is its identity.
Recipe recipe_of(const LraRun& command, const std::string& task, const lra::Method& method,
                 int64_t seed) {
  std::vector<std::string> settings = method.settings;
  settings.push_back(join("train.seed=", seed));
  settings.insert(settings.end(), command.set.begin(), command.set.end());
  const std::string ending = command.preset == "quick" ? "_quick.toml" : ".toml";
  Recipe recipe = read_recipe(command.recipes + "/" + task + ending, settings);
  recipe.train.steps = std::max<int64_t>(1, recipe.train.steps / command.shorten);
  recipe.train.warmup_steps /= command.shorten;
  recipe.train.out = join(command.out, "/", task, "/", method.name, "/", seed);
  return recipe;
}

// [train] without what changes no result.
std::string training_of(const Recipe& recipe) {
  Recipe only;
  only.train = recipe.train;
  only.train.out.clear();
  only.train.threads = 0;
  return to_toml(only);
}

// Throws Error when the folder holds a run that was trained otherwise: a schedule that has ended
// cannot go on as a longer one.
bool is_finished(const Recipe& recipe) {
  const std::string last = last_path(recipe.train.out);
  if (!fs::exists(last)) return false;
  const Checkpoint checkpoint(last);
  if (training_of(checkpoint.recipe()) != training_of(recipe))
    fail(last, ": is of a run with another [train] (", checkpoint.recipe().train.steps,
         " steps), expected that of this command (", recipe.train.steps,
         " steps); --out DIR starts another suite");
  return checkpoint.state().finished;
}

// Peak memory is counted from here: one process runs many. What the last one kept of a GPU's
// memory, other processes may need.
void forget_peak_memory(at::Device device) {
  if (device.is_cuda()) {
    at::globalContext().lazyInitDevice(device.type());  // else the first run has nothing to reset
    at::accelerator::emptyCache();
    at::accelerator::resetPeakStats(device.index());
  } else {
    std::ofstream("/proc/self/clear_refs") << "5";
  }
}

// "NVIDIA H100 80GB HBM3", "AMD EPYC 9654, 2 cores"
std::string hardware_name(at::Device device) {
  if (device.is_cpu()) {
    const Machine machine = this_machine();
    return join(machine.cpu, ", ", machine.cores, " cores");
  }
  const std::string name = device_names()[1 + static_cast<size_t>(device.index())];
  const size_t begin = name.find('(') + 1;
  return name.substr(begin, name.rfind(')') - begin);
}

// Notes the origin as soon as the folder is this process's.
class NotedProgress : public Progress {
 public:
  NotedProgress(const Recipe& recipe, std::string name, at::Device device)
      : Progress(std::cerr, isatty(STDERR_FILENO) != 0, recipe.train.steps, std::move(name)),
        folder_(recipe.train.out),
        device_(device) {}

  void on_start(int64_t first_step, int64_t parameters) override {
    lra::write_origin(folder_, hardware_name(device_), command_line());
    Progress::on_start(first_step, parameters);
  }

 private:
  std::string folder_;
  at::Device device_;
};

// Runs of one command, counted.
struct Tally {
  int64_t done = 0, before = 0, taken = 0;
  std::vector<std::string> failures;
};

void run_one(const Recipe& recipe, const std::string& name, TrainControl control, Tally& tally) {
  // The others are worth having all the same.
  const auto failed = [&](const std::string& why) {
    tally.failures.push_back(name + ": " + why.substr(0, why.find('\n')));
    std::cerr << tally.failures.back() << std::endl;
  };
  try {
    if (is_finished(recipe)) {
      ++tally.before;
      return;
    }
    forget_peak_memory(control.device);
    if (recipe.train.warmup_steps >= recipe.train.steps)
      std::cerr << name << ": the warm-up of " << recipe.train.warmup_steps
                << " steps does not end in " << recipe.train.steps << "; --shorten shortens both"
                << std::endl;
    NotedProgress progress(recipe, name, control.device);
    control.observer = &progress;
    if (train(recipe, control) == Ending::kInterrupted)
      throw Interrupted(name + ": stopped and saved; the same command goes on");
    ++tally.done;
  } catch (const Interrupted&) {
    throw;
  } catch (const FolderTaken&) {
    ++tally.taken;
  } catch (const Error& error) {
    failed(error.what());
  } catch (const c10::Error& error) {
    failed(error.what_without_backtrace());
  }
}

void run(const LraRun& command) {
  keep_freed_memory();
  const std::vector<lra::Method> methods = lra::chosen_methods(command.methods);
  const std::vector<std::string> tasks = command.tasks.empty() ? lra::task_names() : command.tasks;
  TrainControl control;
  control.device = choose_device(command.device);
  control.resume = true;
  control.stop = stop_on_signals();
  Tally tally;
  // Seeds outermost: an interrupted suite has everything once before anything twice.
  for (const int64_t seed : command.seeds) {
    for (const std::string& task : tasks) {
      for (const lra::Method& method : methods) {
        const Recipe recipe = recipe_of(command, task, method, seed);
        run_one(recipe, join(task, " ", method.name, " seed ", seed), control, tally);
      }
    }
  }
  std::cout << command.out << ": " << tally.done << " runs done, " << tally.before
            << " were before, " << tally.taken << " are another process's\n";
  if (!tally.failures.empty())
    fail("lra: ", tally.failures.size(), " runs failed, the first: ", tally.failures.front());
}

struct LraReport {
  std::string runs = "runs/lra", html, markdown, json;
};

void write(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  FileWriter file(path);
  file.write(text);
  file.commit();
  std::cout << path << "\n";
}

void report(const LraReport& command) {
  const std::vector<lra::Cell> cells = lra::read_results(command.runs);
  const Machine machine = this_machine();
  const std::string line = join(utc_date(), ", report made on ", machine.cpu, ", ", machine.cores,
                                " cores, yoso ", YOSO_VERSION);
  write(command.html, lra::page(cells, line));
  write(command.markdown, lra::markdown(cells));
  write(command.json, lra::json(cells).dump(2) + "\n");
  if (command.html.empty() && command.markdown.empty() && command.json.empty())
    std::cout << lra::markdown(cells);
}

}  // namespace

void add_lra_command(CLI::App& app) {
  CLI::App* lra = app.add_subcommand("lra", "The Long Range Arena: all tasks, all ways to attend");
  lra->require_subcommand(1);

  const auto run_options = std::make_shared<LraRun>();
  CLI::App* run_command = lra->add_subcommand("run", "Train and evaluate tasks x methods x seeds");
  run_command->add_option("--tasks", run_options->tasks, "default: all six")
      ->delimiter(',')
      ->check(CLI::IsMember(lra::task_names()));
  run_command->add_option("--methods", run_options->methods, lra::kMethodsHelp)->delimiter(',');
  run_command->add_option("--seeds", run_options->seeds, "one run each")
      ->delimiter(',')
      ->capture_default_str();
  run_command
      ->add_option("--preset", run_options->preset,
                   "full: the protocol, for a GPU; quick: a taste for a CPU, too short to learn")
      ->check(CLI::IsMember({"full", "quick"}))
      ->capture_default_str();
  run_command
      ->add_option("--shorten", run_options->shorten,
                   "divides the steps and the warm-up of every recipe; the report says so")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  run_command->add_option("--recipes", run_options->recipes, "folder of TASK.toml, TASK_quick.toml")
      ->capture_default_str();
  run_command->add_option("--out", run_options->out, "folder of all runs: OUT/TASK/METHOD/SEED")
      ->capture_default_str();
  run_command->add_option("--set", run_options->set, "KEY=VALUE, changes a key of every recipe")
      ->allow_extra_args(false);
  add_device_option(*run_command, run_options->device);
  run_command->footer(
      "Runs that are finished are left alone and interrupted ones go on, so the same command\n"
      "continues after Ctrl-C or a crash. Start it several times with the same --out, for instance\n"
      "to fill a GPU, and the processes share the work. docs/lra.md says how to get the data.");
  run_command->callback([run_options] { run(*run_options); });

  const auto report_options = std::make_shared<LraReport>();
  CLI::App* report_command =
      lra->add_subcommand("report", "Accuracy beside published numbers, speed, memory, curves");
  report_command->add_option("--runs", report_options->runs, "what run wrote")
      ->capture_default_str();
  report_command->add_option("--html", report_options->html, "page to write; needs no other file");
  report_command->add_option("--markdown", report_options->markdown, "tables to write");
  report_command->add_option("--json", report_options->json, "numbers to write");
  report_command->footer("Without a file to write, the tables are printed.");
  report_command->callback([report_options] { report(*report_options); });
}

}  // namespace yoso
