// Manual pages as pairs of documents: label 1 where one page cites the other, as papers do in the
// ACL Anthology Network. A free stand-in for it, never it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace yoso::manpages {

// The text of a page's source, in roff's macros man or mdoc, on one line.
struct Page {
  std::string text;             // without SEE ALSO and without the citations
  std::set<std::string> cited;  // "open(2)"
};
Page parse(std::string_view source);

// Whether the page only names another one that stands for it (".so man3/abs.3").
bool is_link(std::string_view source);

struct Written {
  int64_t pages = 0, citations = 0;  // different pages; pairs of them that are linked
  std::array<int64_t, 3> pairs{};    // of train, dev and test
};

// Reads all files NAME.SECTION and NAME.SECTION.gz in folders man1 to man9 anywhere below `from`.
// Pages of equal content are one page. Pages are split 6 : 2 : 2 at random, so that none is in two
// splits; linked pairs of two splits are left out. (The share of pairs is
// the square of that of pages: 8 : 1 : 1 would leave a hundredth to judge by.) Beside every linked
// pair stands an unlinked one, half of these of one section. Writes the files of pair_files.h to
// `folder`. Throws Error for a file that cannot be read and for a set of pages with too few
// citations.
Written write_pairs(const std::vector<std::filesystem::path>& from,
                    const std::filesystem::path& folder, uint64_t seed);

}  // namespace yoso::manpages
