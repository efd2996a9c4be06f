// yoso data pathfinder: draws Pathfinder images, or prepares published ones.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "yoso/cli/data.h"
#include "yoso/core/check.h"
#include "yoso/cpu/parallel.h"
#include "yoso/tasks/pathfinder_files.h"

namespace yoso {
namespace {

struct PathfinderCommand {
  std::string out, from, difficulty = "hard", sheet;
  int64_t side = 32, count = 200'000;
  uint64_t seed = 0;
  std::optional<int64_t> threads;
};

void draw_sheet(const PathfinderCommand& command, const pathfinder::Settings& settings) {
  constexpr int64_t kColumns = 8, kRows = 3;
  const pathfinder::Generator generator(settings);
  std::vector<pathfinder::Drawing> drawings;
  for (int64_t i = 0; i < kColumns * kRows; ++i)
    drawings.push_back(generator.draw(static_cast<uint64_t>(i)));
  pathfinder::write_sheet(command.sheet, drawings, settings.side, kColumns);
  std::cout << command.sheet << ": the first " << drawings.size() << " images\n";
}

void run(const PathfinderCommand& command) {
  if (command.out.empty() && command.sheet.empty())
    fail("pathfinder: neither --out nor --sheet is given, expected what to write");
  if (command.threads) cpu::set_num_threads(*command.threads);
  const pathfinder::Settings settings{.side = command.side,
                                      .difficulty = pathfinder::difficulty_of(command.difficulty),
                                      .seed = command.seed};
  if (!command.sheet.empty()) draw_sheet(command, settings);
  if (command.out.empty()) return;
  ProgressLine progress;
  const auto show = [&](int64_t done, int64_t total) { progress.show(done, total); };
  if (command.from.empty()) {
    pathfinder::write_generated(settings, command.count, command.out, show);
    std::cout << command.out << ": " << command.count << " images of " << command.side << " x "
              << command.side << ", " << command.difficulty << "\n";
  } else {
    const auto [images, empty] =
        pathfinder::write_published(command.from, command.side, command.out, show);
    std::cout << command.out << ": " << images << " images of " << command.side << " x "
              << command.side << "; " << empty << " empty files left out\n";
  }
}

}  // namespace

void add_pathfinder_data(CLI::App& data) {
  const auto options = std::make_shared<PathfinderCommand>();
  CLI::App* command = data.add_subcommand(
      "pathfinder", "Pathfinder: whether two markers lie on one snake, as in the Long Range Arena");
  command->add_option("--out", options->out, "folder to write, made when it is not there");
  command->add_option("--side", options->side, "height and width: 32, 64, 128 (Path-X) or 256")
      ->capture_default_str();
  command
      ->add_option("--difficulty", options->difficulty,
                   "easy, intermediate or hard: long snakes of 6, 9 or 14 paddles; the Long Range "
                   "Arena's results are on hard ones")
      ->capture_default_str();
  command
      ->add_option("--count", options->count,
                   "images; 80 % of them are for training, 10 % dev, 10 % test")
      ->capture_default_str();
  command->add_option("--seed", options->seed, "another seed gives other images")
      ->capture_default_str();
  command->add_option("--threads", options->threads, "default: as many as there are cores");
  command->add_option("--sheet", options->sheet,
                      "PNG file for a look at the first images; those on one snake are framed");
  command
      ->add_option("--from", options->from,
                   "prepare published images instead: a folder with metadata/*.npy and imgs/")
      ->excludes("--difficulty")
      ->excludes("--count")
      ->excludes("--seed")
      ->excludes("--sheet");
  command->footer(
      "Writes images.npy and labels.npy, bytes that training maps and NumPy reads. Generated ones\n"
      "depend on side, difficulty, count and seed only, not on the machine or the number of\n"
      "threads. Published ones are in lra_release.gz of the Long Range Arena,\n"
      "https://storage.googleapis.com/long-range-arena/lra_release.gz (7.7 GB; its authors give no\n"
      "checksum), for instance --from lra_release/pathfinder32/curv_contour_length_14.");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
