// yoso data image: CIFAR-10 in its binary layout from a folder of images.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "yoso/cli/data.h"
#include "yoso/tasks/cifar_files.h"

namespace yoso {
namespace {

struct ImageCommand {
  std::string from, out;
  uint64_t seed = 0;
};

void run(const ImageCommand& command) {
  ProgressLine progress;
  const cifar::Written written =
      cifar::write_from_images(command.from, command.out, command.seed,
                               [&](int64_t done, int64_t total) { progress.show(done, total); });
  std::cout << command.out << ": " << written.train << " images in data_batch_1.bin to "
            << "data_batch_5.bin, " << written.test << " in test_batch.bin\n";
}

}  // namespace

void add_image_data(CLI::App& data) {
  const auto options = std::make_shared<ImageCommand>();
  CLI::App* command = data.add_subcommand(
      "image", "CIFAR-10: its binary files from a folder of JPEG or PNG images");
  command->add_option("--from", options->from, "folder with {train,test}/CLASS/*.jpg or *.png")
      ->required();
  command->add_option("--out", options->out, "folder to write, made when it is not there")
      ->required();
  command->add_option("--seed", options->seed, "another seed gives another order")
      ->capture_default_str();
  command->footer(
      "The task image reads CIFAR-10 as its authors publish it, without this command:\n"
      "  https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz  170,052,171 bytes,\n"
      "  MD5 c32a1d4ab5d03f1284b67883e8d13530; unpack it and name the folder\n"
      "  cifar-10-batches-bin as the recipe's data.\n"
      "This command is for copies that are kept as images. JPEG has changed the pixels: say\n"
      "\"JPEG-recompressed CIFAR-10\" beside a result. The last tenth of train is dev, so images are\n"
      "put into a random order.");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
