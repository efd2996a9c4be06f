// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/text_files.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "yoso/core/check.h"
#include "yoso/core/utf8.h"
#include "yoso/tasks/folders.h"
#include "yoso/tasks/lines.h"

namespace yoso {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> class_folders(const fs::path& tree) {
  std::vector<fs::path> folders = sorted_folders(tree);
  std::erase_if(folders, [](const fs::path& folder) { return folder.filename() == "unsup"; });
  return folders;
}

// Calls f(); an Error of it gets `place` in front.
template <class F>
void located(const std::string& place, F&& f) {
  try {
    f();
  } catch (const Error& error) {
    fail(place, ": ", error.what());
  }
}

void read_tree(const fs::path& tree, const DocumentSink& sink) {
  for (const fs::path& folder : class_folders(tree)) {
    for (const fs::path& path : sorted_files(folder, {".txt"})) {
      std::ifstream in = open_file(path);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      if (in.bad()) fail(path.string(), ": reading failed");
      located(path.string(), [&] { sink(folder.filename().string(), text); });
    }
  }
}

void read_all(const fs::path& path, const DocumentSink& sink) {
  if (fs::is_directory(path)) return read_tree(path, sink);
  std::ifstream in = open_file(path);
  if (path.extension() == ".tsv") return read_documents_tsv(in, path.string(), sink);
  read_documents_jsonl(in, path.string(), sink);
}

std::string label_of(const nlohmann::json& document) {
  const auto label = document.find("label");
  if (label == document.end()) fail("document has no \"label\", expected a string or an integer");
  if (label->is_string()) return label->get<std::string>();
  if (label->is_number_integer()) return label->dump();
  fail("\"label\" is ", in_quotes(label->dump(-1, ' ', true)), ", expected a string or an integer");
}

}  // namespace

void read_documents_tsv(std::istream& in, const std::string& path, const DocumentSink& sink) {
  for_each_line(in, path, [&](std::string_view line, int64_t number) {
    const size_t tab = line.find('\t');
    if (tab == line.npos) fail("line has no tab, expected a label, a tab and the text");
    if (tab == 0) fail("label is empty, expected the name of a class");
    const std::string_view label = line.substr(0, tab);
    if (number == 1 && label == "label") return;
    sink(label, line.substr(tab + 1));
  });
}

void read_documents_jsonl(std::istream& in, const std::string& path, const DocumentSink& sink) {
  for_each_line(in, path, [&](std::string_view line, int64_t) {
    const auto document = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!document.is_object()) {
      fail("line is ", in_quotes(line), ", expected {\"text\": \"...\", \"label\": \"...\"}");
    }
    const auto text = document.find("text");
    if (text == document.end() || !text->is_string()) {
      fail("document has no \"text\", expected a string");
    }
    const std::string label = label_of(document);
    if (label.empty()) fail("\"label\" is empty, expected the name of a class");
    sink(label, text->get_ref<const std::string&>());
  });
}

fs::path find_documents(const fs::path& folder, const std::string& split) {
  fs::path found;
  for (const char* ending : {"", ".tsv", ".jsonl"}) {
    const fs::path path = folder / (split + ending);
    const bool is_there = *ending == '\0' ? fs::is_directory(path) : fs::is_regular_file(path);
    if (!is_there) continue;
    if (!found.empty()) {
      fail(folder.string(), ": split ", split, " is both ", found.filename().string(), " and ",
           path.filename().string(), ", expected one of them");
    }
    found = path;
  }
  return found;
}

std::vector<std::string> read_classes(const fs::path& path) {
  std::set<std::string> classes;
  if (fs::is_directory(path)) {
    for (const fs::path& folder : class_folders(path)) classes.insert(folder.filename().string());
  } else {
    read_all(path, [&](std::string_view label, std::string_view) { classes.emplace(label); });
  }
  for (const std::string& name : classes) {
    if (!is_utf8(name)) fail(path.string(), ": class is ", in_quotes(name), ", expected UTF-8");
  }
  return {classes.begin(), classes.end()};
}

Examples read_documents(const fs::path& path, const std::vector<std::string>& classes,
                        int64_t max_length) {
  Examples examples;
  read_all(path, [&](std::string_view label, std::string_view text) {
    const auto place = std::find(classes.begin(), classes.end(), label);
    if (place == classes.end()) {
      fail("label is ", in_quotes(label), ", expected one of the classes: ", listed(classes));
    }
    text = text.substr(0, static_cast<size_t>(max_length));
    examples.add({reinterpret_cast<const uint8_t*>(text.data()), text.size()},
                 place - classes.begin());
  });
  if (!fs::is_directory(path)) return examples;
  for (const std::string& name : classes) {
    const fs::path folder = path / name;
    if (sorted_files(folder, {".txt"}).empty())
      fail(folder.string(), ": has no .txt files, expected documents of the class");
  }
  return examples;
}

}  // namespace yoso
