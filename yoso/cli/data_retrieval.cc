// yoso data retrieval: pairs of manual pages.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "yoso/cli/data.h"
#include "yoso/tasks/manpages.h"
#include "yoso/tasks/pair_files.h"

namespace yoso {
namespace {

struct RetrievalCommand {
  std::vector<std::string> from;
  std::string out;
  uint64_t seed = 0;
};

void run(const RetrievalCommand& command) {
  const std::vector<std::filesystem::path> from(command.from.begin(), command.from.end());
  const manpages::Written written = manpages::write_pairs(from, command.out, command.seed);
  std::cout << command.out << ": of " << written.pages << " pages with " << written.citations
            << " linked pairs, " << written.pairs[0] << " pairs in " << kPairFiles[0] << ", "
            << written.pairs[1] << " in " << kPairFiles[1] << ", " << written.pairs[2] << " in "
            << kPairFiles[2] << "\n";
}

}  // namespace

void add_retrieval_data(CLI::App& data) {
  const auto options = std::make_shared<RetrievalCommand>();
  CLI::App* command = data.add_subcommand(
      "retrieval", "Pairs of manual pages, whether one cites the other: a stand-in for AAN");
  command
      ->add_option(
          "--from", options->from,
          "folders with manual pages somewhere below, in man/man1 to man/man9; gzip or not")
      ->required();
  command->add_option("--out", options->out, "folder to write, made when it is not there")
      ->required();
  command->add_option("--seed", options->seed, "another seed gives other splits and pairs")
      ->capture_default_str();
  command->footer(
      "The task retrieval reads the pairs of the ACL Anthology Network (AAN) that the Long Range\n"
      "Arena uses, without this command: new_aan_pairs.{train,eval,test}.tsv in lra_release.gz,\n"
      "https://storage.googleapis.com/long-range-arena/lra_release.gz (7.7 GB; its authors give no\n"
      "checksum). This command makes files of that form from manual pages, for instance those of\n"
      "Debian, which need no account and 7 MB:\n"
      "  apt-get download freebsd-manpages manpages manpages-dev\n"
      "  for deb in *.deb; do dpkg -x $deb pages; done\n"
      "  yoso data retrieval --from pages --out data/manpages\n"
      "Citations are taken out of the texts. Report results as \"man-page citation\", not as AAN.");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
