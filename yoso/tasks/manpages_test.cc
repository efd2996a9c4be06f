// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/manpages.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include <map>
#include <set>

#include "yoso/core/testing.h"
#include "yoso/tasks/pair_files.h"

namespace yoso::manpages {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(ManPages, TakesCitationsOutOfMan) {
  const Page page = parse(
      ".\\\" a comment\n"
      ".TH OPEN 2 2023-01-01 Linux\n"
      ".SH NAME\n"
      "open \\- open a file\n"
      ".SH DESCRIPTION\n"
      "The\n"
      ".BR open ()\n"
      "call is like\n"
      ".BR creat (2),\n"
      "but \\fBstat\\fP(2) and \\fIf(x)\\fR are not; (1) see \"signal (7)\".\n"
      ".SH SEE ALSO\n"
      ".BR close (2),\n"
      "and much more\n"
      ".SH NOTES\n"
      "The \"end\".\n");
  EXPECT_EQ(page.text,
            "NAME open - open a file DESCRIPTION The open() call is like , but and f(x) are not; "
            "(1) see \"\". NOTES The \"end\".");
  EXPECT_THAT(page.cited, ElementsAre("close(2)", "creat(2)", "signal(7)", "stat(2)"));
}

TEST(ManPages, TakesCitationsOutOfMdoc) {
  const Page page = parse(
      ".Dd May 1, 2020\n.Dt CAT 1\n.Os\n"
      ".Sh NAME\n.Nm cat\n.Nd concatenate files\n"
      ".Sh DESCRIPTION\nRead\n.Ar file\nwith\n.Xr read 2 ,\nand\n.Op Fl n Ar count\n"
      ".Ss Notes\nOn\n.Dq Xr tty 4 .\n"
      ".Sh SEE ALSO\n.Xr head 1 ,\n.Xr tail 1\n");
  EXPECT_EQ(page.text,
            "NAME cat concatenate files DESCRIPTION Read file with , and n count Notes On .");
  EXPECT_THAT(page.cited, ElementsAre("head(1)", "read(2)", "tail(1)", "tty(4)"));
}

TEST(ManPages, KnowsPagesThatAreLinks) {
  EXPECT_TRUE(is_link(".so man3/abs.3\n"));
  EXPECT_TRUE(is_link(".\\\" generated\n.so man3/abs.3"));
  EXPECT_FALSE(is_link(".TH A 1\n.so man3/abs.3"));
  EXPECT_FALSE(is_link(""));
}

// 200 pages p0(1), p1(2), p2(1), ... each citing the next one.
void write_pages(const TestFolder& folder) {
  for (int64_t i = 0; i < 200; ++i) {
    const int64_t next = (i + 1) % 200;
    folder.write(join("pages/usr/share/man/man", 1 + i % 2, "/p", i, ".", 1 + i % 2),
                 join(".SH NAME\np", i, "\tis\n.SH SEE ALSO\np", next, "(", 1 + next % 2, ")\n"));
  }
  // Not pages of their own: a link, a copy, a translation, a file without a section.
  folder.write("pages/usr/share/man/man1/q.1", ".so man1/p0.1\n");
  folder.write("pages/usr/share/man/man1/r.1", folder.read("pages/usr/share/man/man1/p0.1"));
  folder.write("pages/usr/share/man/de/man1/s.1", ".SH NAME\ns\n");
  folder.write("pages/usr/share/man/man1/README", "text");
}

TEST(ManPages, WritesPairsOfWhichNoPageIsInTwoSplits) {
  const TestFolder folder;
  write_pages(folder);
  const Written written = write_pairs({folder / "pages"}, folder / "out", 0);
  EXPECT_EQ(written.pages, 200);
  EXPECT_EQ(written.citations, 200);
  std::map<std::string, std::set<size_t>> splits_of;
  for (size_t s = 0; s < 3; ++s) {
    const PairFile pairs(folder.path() / "out" / kPairFiles[s]);
    ASSERT_EQ(pairs.size(), written.pairs[s]);
    int64_t linked = 0;
    for (int64_t i = 0; i < pairs.size(); ++i) {
      int64_t number[2];
      for (const size_t side : {0, 1}) {
        const auto text = pairs.texts(i)[side];
        const std::string name(text.begin(), text.end());
        ASSERT_THAT(name, testing::MatchesRegex("NAME p[0-9]+ is"));
        splits_of[name].insert(s);
        number[side] = std::stoi(name.substr(6));
      }
      const int64_t apart = (number[0] - number[1] + 200) % 200;
      EXPECT_EQ(pairs.label(i), apart == 1 || apart == 199);
      linked += pairs.label(i);
    }
    EXPECT_EQ(2 * linked, pairs.size());
  }
  for (const auto& [name, splits] : splits_of) EXPECT_EQ(splits.size(), 1) << name;
  // The same again, and others with another seed.
  const std::string first = folder.read(std::string("out/") + kPairFiles[0]);
  write_pairs({folder / "pages"}, folder / "out", 0);
  EXPECT_EQ(folder.read(std::string("out/") + kPairFiles[0]), first);
  write_pairs({folder / "pages"}, folder / "out", 1);
  EXPECT_NE(folder.read(std::string("out/") + kPairFiles[0]), first);
  const std::string sections = folder / "pages/usr/share/man";
  for (const char* spelling : {"", "/", "/.", "/man1/.."})
    EXPECT_EQ(write_pairs({sections + spelling}, folder / "out", 0).pages, 200) << spelling;
}

TEST(ManPages, ReadsGzipAndFindsWhatIsDamaged) {
  const TestFolder folder;
  write_pages(folder);
  const std::string path = folder / "pages/usr/share/man/man1/z.1.gz";
  const std::string page = ".SH NAME\nzipped page\n.SH SEE ALSO\np0(1)\n";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, page.data(), static_cast<unsigned>(page.size()));
  gzclose(file);
  EXPECT_EQ(write_pairs({folder / "pages"}, folder / "out", 0).citations, 201);
  const std::string zipped = folder.read("pages/usr/share/man/man1/z.1.gz");
  std::string flipped = zipped;
  flipped[zipped.size() - 8] ^= 1;  // of the checksum: it and the size end the file
  for (const std::string& damaged : {flipped, zipped.substr(0, zipped.size() - 9)}) {
    folder.write("pages/usr/share/man/man1/z.1.gz", damaged);
    EXPECT_THAT(error_of([&] { write_pairs({folder / "pages"}, folder / "out", 0); }),
                StartsWith(path + ": is damaged or cut short: "));
  }
}

TEST(ManPages, SaysWhenThereAreTooFewPages) {
  const TestFolder folder;
  folder.write("man/man1/a.1", "a\n");
  EXPECT_EQ(error_of([&] { write_pairs({folder.path()}, folder / "out", 0); }),
            "retrieval: 1 pages with 0 citations give no pairs for a split, expected some hundred "
            "pages below " +
                folder.path().string() + " in folders man/man1 to man/man9");
  EXPECT_THAT(error_of([&] { write_pairs({folder / "absent"}, folder / "out", 0); }),
              HasSubstr("absent: cannot be read: No such file or directory"));
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

}  // namespace
}  // namespace yoso::manpages
