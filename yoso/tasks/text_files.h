// Labelled documents from files in three forms.
//
//   tree of text  <split>/<class>/*.txt, a document a file (the layout of aclImdb); folders named
//                 "unsup" or beginning with a dot are passed over
//   TSV           <split>.tsv, "label<TAB>text" a line; a first line labelled "label" is a header
//   JSON lines    <split>.jsonl, {"text": "...", "label": "..."} a line; a label may be an integer
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

#include "yoso/tasks/examples.h"

namespace yoso {

using DocumentSink = std::function<void(std::string_view label, std::string_view text)>;

// The readers call sink(label, text) for every document in the order of the file, and put
// "path:line: " before every Error, the sink's own included.
void read_documents_tsv(std::istream& in, const std::string& path, const DocumentSink& sink);
void read_documents_jsonl(std::istream& in, const std::string& path, const DocumentSink& sink);

// The folder or file that holds split `split` ("train", "dev", "test") in `folder`, or an empty
// path. Throws Error when there are two.
std::filesystem::path find_documents(const std::filesystem::path& folder, const std::string& split);

// The labels that occur in a folder or file of find_documents, sorted. Throws Error on one that is
// not UTF-8: a recipe could not hold it.
std::vector<std::string> read_classes(const std::filesystem::path& path);

// The documents in it, each cut after max_length bytes; the label is the place in `classes`. A tree
// is read in the order of class and file names. Throws Error on a label that is no class, and for a
// tree without documents of a class: it is not unpacked whole.
Examples read_documents(const std::filesystem::path& path, const std::vector<std::string>& classes,
                        int64_t max_length);

}  // namespace yoso
