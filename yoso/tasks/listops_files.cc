// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops_files.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/tasks/folders.h"
#include "yoso/tasks/lines.h"
#include "yoso/tasks/listops_language.h"

namespace yoso::listops {
namespace {

constexpr std::string_view kHeader = "Source\tTarget";

void add_line(std::string_view line, int64_t max_length, Examples& examples) {
  const size_t tab = line.rfind('\t');
  if (tab == line.npos) fail("line has no tab, expected an expression, a tab and its value");
  const std::string_view target = line.substr(tab + 1);
  if (target.size() != 1 || target[0] < '0' || target[0] > '9') {
    fail("value is ", in_quotes(target), ", expected a digit");
  }
  const std::vector<uint8_t> symbols = parse(line.substr(0, tab));
  if (symbols.empty()) fail("expression is empty, expected a digit or an operator");
  const size_t length = std::min(symbols.size(), static_cast<size_t>(max_length));
  examples.add({symbols.data(), length}, target[0] - '0');
}

}  // namespace

void FileSettings::check() const {
  trees.check();
  YOSO_CHECK_RANGE(train, 1, 100'000'000);
  YOSO_CHECK_RANGE(dev, 1, 100'000'000);
  YOSO_CHECK_RANGE(test, 1, 100'000'000);
}

FileSettings preset(const std::string& name) {
  if (name == "full") return {};
  if (name == "small") {
    return {.trees = {.above_length = 50, .below_length = 300},
            .train = 20000,
            .dev = 1000,
            .test = 1000};
  }
  fail("listops: preset is ", in_quotes(name), ", expected small or full");
}

void write_files(const std::filesystem::path& folder, const FileSettings& settings,
                 const std::function<void(int64_t)>& progress) {
  settings.check();
  make_folder(folder);
  const FolderLock lock(folder.string());

  // Test and dev come first, so that they stay the same whatever the size of train.
  FileWriter test(folder / kTestFile), dev(folder / kDevFile), train(folder / kTrainFile);
  for (FileWriter* file : {&test, &dev, &train}) file->write(join(kHeader, "\r\n"));
  int64_t written = 0;
  generate(settings.trees, settings.total(), [&](std::span<const uint8_t> expression) {
    FileWriter& file = written < settings.test                  ? test
                       : written < settings.test + settings.dev ? dev
                                                                : train;
    const char value = static_cast<char>('0' + evaluate(expression));
    file.write(nested_text(expression) + '\t' + value + "\r\n");
    progress(++written);
  });
  for (FileWriter* file : {&test, &dev, &train}) file->commit();
}

Examples read_file(std::istream& in, const std::string& path, int64_t max_length) {
  Examples examples;
  bool header = true;
  for_each_line(in, path, [&](std::string_view line, int64_t) {
    if (header && line != kHeader) {
      fail("header is ", in_quotes(line), ", expected 'Source', a tab and 'Target'");
    }
    if (!header) add_line(line, max_length, examples);
    header = false;
  });
  return examples;
}

}  // namespace yoso::listops
