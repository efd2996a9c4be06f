// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/manpages.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <numeric>
#include <unordered_map>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/core/random.h"
#include "yoso/tasks/folders.h"
#include "yoso/tasks/pair_files.h"

namespace yoso::manpages {
namespace {

namespace fs = std::filesystem;

bool is_one_of(std::string_view word, std::string_view names) {
  const size_t place = names.find(join(" ", word, " "));
  return place != names.npos;
}

// Macros whose arguments are layout or bookkeeping.
constexpr std::string_view kSilent =
    " TH Dd Dt Os so de ds nr ie if el ig ta in ti ll ne nh hy na ad ft fam sp br nf fi TP TQ PP P LP "
    "HP RS RE PD DT UC AT Bl El Bd Ed Bk Ek Pp Lp TS TE EX EE rm tr rr als mso cc eo ec bp lf pl ";
// Macros of mdoc that may also stand among arguments.
constexpr std::string_view kCallable =
    " Ac Ad An Ao Ap Aq Ar At Bc Bo Bq Brc Bro Brq Bsx Bx Cd Cm Dc Do Dq Dv Ec Em En Eo Er Es Ev Fa "
    "Fc Fd Fl Fn Fo Ft Fx Ic In It Lb Li Lk Ms Mt Nd Nm No Ns Nx Oc Oo Op Ox Pa Pc Pf Po Pq Qc Ql Qo "
    "Qq Rv Sc Sm So Sq St Sx Sy Tn Ux Va Vt Xc Xo Xr ";
// Macros of man that set their arguments in turns of two fonts, without spaces.
constexpr std::string_view kAlternating = " BR RB BI IB IR RI ";

// Text without escape sequences.
std::string unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      plain += text[i] == '\t' ? ' ' : text[i];
      continue;
    }
    if (++i == text.size()) break;
    const auto skip_name = [&] {  // one letter, two after (, or any number in brackets
      if (++i >= text.size()) return;
      if (text[i] == '(') i += 2;
      if (i < text.size() && text[i] == '[') i = std::min(text.find(']', i), text.size());
    };
    switch (text[i]) {
      case '"':
        return plain;  // a comment
      case 'f':
      case '*':
      case 'n':
        skip_name();
        break;
      case 's':  // a size: an optional sign, digits
        while (i + 1 < text.size() && (std::isdigit(static_cast<unsigned char>(text[i + 1])) ||
                                       text[i + 1] == '+' || text[i + 1] == '-'))
          ++i;
        break;
      case '(': {  // a sign by its name
        const std::string_view name = text.substr(i + 1, 2);
        if (name == "aq" || name == "oq" || name == "cq") plain += '\'';
        if (name == "dq" || name == "lq" || name == "rq") plain += '"';
        if (name == "en" || name == "em" || name == "mi" || name == "hy") plain += '-';
        if (name == "rs") plain += '\\';
        i += 2;
        break;
      }
      case '[':
        i = std::min(text.find(']', i), text.size());
        break;
      case 'e':
      case '\\':
        plain += '\\';
        break;
      case '-':
      case '.':
      case '\'':
        plain += text[i];
        break;
      case ' ':
      case '~':
      case '0':
        plain += ' ';
        break;
      default:  // &, c, |, ^, %, :, ... have no width
        break;
    }
  }
  return plain;
}

// Words with spaces between them; quotes hold one together.
std::vector<std::string> arguments(std::string_view line) {
  std::vector<std::string> words;
  for (size_t i = 0; i < line.size();) {
    if (line[i] == ' ' || line[i] == '\t') {
      ++i;
      continue;
    }
    std::string word;
    if (line[i] == '"') {
      for (++i; i < line.size(); ++i) {
        if (line[i] == '"' && line.substr(i, 2) != "\"\"") break;
        if (line[i] == '"') ++i;
        word += line[i];
      }
      ++i;
    } else {
      for (; i < line.size() && line[i] != ' ' && line[i] != '\t'; ++i) {
        word += line[i];
        if (line[i] == '\\' && i + 1 < line.size()) word += line[++i];
      }
    }
    words.push_back(std::move(word));
  }
  return words;
}

bool is_punctuation(const std::string& word) {
  return word.size() == 1 && std::string_view(".,:;!?)]").find(word[0]) != std::string_view::npos;
}

// The text that a macro sets, a citation of mdoc (".Xr open 2 ,") as man writes it ("open(2),").
std::string rendered(const std::string& macro, const std::vector<std::string>& words) {
  std::string text;
  const bool alternating = is_one_of(macro, kAlternating);
  std::string before = macro;
  for (size_t i = 0; i < words.size(); ++i) {
    if (before == "Xr" && i + 1 < words.size() && !is_one_of(words[i], kCallable)) {
      text += join(text.empty() ? "" : " ", words[i], "(", words[i + 1], ")");
      ++i;
      before.clear();
      continue;
    }
    before = words[i];
    // mdoc's macros have two letters, man's that take text one, or are alternating, or headings.
    const bool mdoc = macro.size() >= 2 && std::islower(static_cast<unsigned char>(macro[1]));
    if (mdoc && is_one_of(words[i], kCallable)) continue;
    if (!text.empty() && !alternating && !is_punctuation(words[i])) text += ' ';
    text += words[i];
  }
  return unescape(text);
}

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("_.+:-").find(c) != std::string_view::npos;
}

// Moves citations such as "open(2)" or "open (2)" from the text to the set.
std::string take_citations(const std::string& text, std::set<std::string>& cited) {
  std::string kept;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '(' && i + 2 < text.size() && text[i + 1] >= '1' && text[i + 1] <= '9') {
      size_t close = i + 2;
      while (close < text.size() && std::isalpha(static_cast<unsigned char>(text[close]))) ++close;
      size_t end = kept.size();
      if (end > 0 && kept[end - 1] == ' ') --end;
      size_t begin = end;
      while (begin > 0 && is_name(kept[begin - 1])) --begin;
      const bool named = begin < end && std::isalpha(static_cast<unsigned char>(kept[begin]));
      if (close < text.size() && text[close] == ')' && close - i <= 5 && named) {
        cited.insert(join(kept.substr(begin, end - begin), "(", text[i + 1], ")"));
        kept.resize(begin);
        i = close;
        continue;
      }
    }
    kept += text[i];
  }
  return kept;
}

std::string read_gz(const fs::path& path) {
  // gzip's reader passes files through that are not compressed.
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) fail(path.string(), ": cannot open");
  std::string text;
  char buffer[1 << 16];
  int count;
  while ((count = gzread(file.get(), buffer, sizeof buffer)) > 0)
    text.append(buffer, static_cast<size_t>(count));
  int code = 0;
  const char* message = gzerror(file.get(), &code);
  if (count < 0 || (code != Z_OK && code != Z_STREAM_END))
    fail(path.string(), ": is damaged or cut short: ", message);
  return text;
}

// "man2/open.2.gz": "open(2)".
std::string key_of(const fs::path& path) {
  std::string name = path.filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  const size_t dot = name.rfind('.');
  if (dot == name.npos || dot + 1 == name.size() || name[dot + 1] < '1' || name[dot + 1] > '9')
    return "";
  return join(name.substr(0, dot), "(", name[dot + 1], ")");
}

// man1 to man9, also with a letter ("man3p"); not those of translations, man/LANG/manN.
bool is_section_folder(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.size() >= 4 && name.size() <= 5 && name.starts_with("man") && name[3] >= '1' &&
         name[3] <= '9' && path.parent_path().filename() == "man";
}

struct Document {
  std::string name;  // of the first page with this content
  Page page;
  char section() const { return name[name.size() - 2]; }
};

// The different pages below the folders, and which page a name means.
struct Library {
  std::vector<Document> documents;
  std::map<std::string, int64_t> by_name;
};

void collect(const fs::path& folder, Library& library,
             std::unordered_map<std::string, int64_t>& by_source) {
  for (const fs::path& below : sorted_folders(folder)) collect(below, library, by_source);
  if (!is_section_folder(folder)) return;
  for (const fs::path& path :
       sorted_entries(folder, [](const auto& entry) { return entry.is_regular_file(); })) {
    const std::string name = key_of(path);
    if (name.empty()) continue;
    const std::string source = read_gz(path);
    if (is_link(source)) continue;
    const auto [known, is_new] = by_source.emplace(source, std::ssize(library.documents));
    if (is_new) library.documents.push_back({name, parse(source)});
    library.by_name.emplace(name, known->second);
  }
}

using Pair = std::pair<int64_t, int64_t>;  // of documents, the smaller number first

std::set<Pair> linked_pairs(const Library& library) {
  std::set<Pair> pairs;
  for (int64_t i = 0; i < std::ssize(library.documents); ++i) {
    for (const std::string& name : library.documents[static_cast<size_t>(i)].page.cited) {
      const auto cited = library.by_name.find(name);
      if (cited == library.by_name.end() || cited->second == i) continue;
      pairs.insert(std::minmax(i, cited->second));
    }
  }
  return pairs;
}

struct Labelled {
  Pair pair;
  int64_t label;
};

// The linked pairs within `members` and as many others, shuffled.
std::vector<Labelled> pairs_of_split(const Library& library, const std::set<Pair>& linked,
                                     const std::vector<int64_t>& members, Random random) {
  const std::set<int64_t> inside(members.begin(), members.end());
  std::vector<Labelled> pairs;
  for (const Pair& pair : linked) {
    if (inside.contains(pair.first) && inside.contains(pair.second)) pairs.push_back({pair, 1});
  }
  std::map<char, std::vector<int64_t>> sections;
  for (const int64_t i : members)
    sections[library.documents[static_cast<size_t>(i)].section()].push_back(i);
  const auto any = [&](const std::vector<int64_t>& of) {
    return of[random.below(static_cast<uint32_t>(of.size()))];
  };
  std::set<Pair> used;
  const auto wanted = std::ssize(pairs);
  // A small or dense set may not have as many others.
  for (int64_t tries = 0; std::ssize(used) < wanted && tries < 100 * wanted; ++tries) {
    const int64_t a = any(members);
    const char section = library.documents[static_cast<size_t>(a)].section();
    const int64_t b = std::ssize(used) % 2 == 0 ? any(sections[section]) : any(members);
    const Pair pair = std::minmax(a, b);
    if (a == b || linked.contains(pair) || !used.insert(pair).second) continue;
    pairs.push_back({pair, 0});
  }
  for (Labelled& p : pairs) {  // which is first says nothing
    if (random.below(2) == 1) std::swap(p.pair.first, p.pair.second);
  }
  shuffle(pairs, random);
  return pairs;
}

}  // namespace

bool is_link(std::string_view source) {
  while (source.starts_with(".\\\"") || source.starts_with("'\\\"") || source.starts_with('\n')) {
    const size_t end = source.find('\n');
    if (end == source.npos) return false;
    source.remove_prefix(end + 1);
  }
  return source.starts_with(".so ");
}

Page parse(std::string_view source) {
  std::string text, see_also;
  bool in_see_also = false;
  while (!source.empty()) {
    const size_t end = std::min(source.find('\n'), source.size());
    const std::string_view line = source.substr(0, end);
    source.remove_prefix(std::min(end + 1, source.size()));
    std::string shown;
    if (line.starts_with('.') || line.starts_with('\'')) {
      std::vector<std::string> words = arguments(line.substr(1));
      if (words.empty() || words[0].starts_with('\\')) continue;
      const std::string macro = words[0];
      words.erase(words.begin());
      if (is_one_of(macro, kSilent)) continue;
      shown = rendered(macro, words);
      if (is_one_of(macro, " SH Sh SS Ss ")) {
        std::string heading = shown;
        for (char& c : heading) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        if (macro[1] == 'H' || macro[1] == 'h') in_see_also = heading == "SEE ALSO";
      }
    } else {
      shown = unescape(line);
    }
    if (shown.empty()) continue;
    (in_see_also ? see_also : text) += shown + ' ';
  }
  Page page;
  const std::string kept = take_citations(text, page.cited);
  take_citations(see_also, page.cited);
  for (const char c : kept) {  // one line, single spaces, no control characters
    const bool space = static_cast<unsigned char>(c) <= ' ' || c == 0x7f;
    if (!space) page.text += c;
    if (space && !page.text.empty() && page.text.back() != ' ') page.text += ' ';
  }
  while (page.text.ends_with(' ')) page.text.pop_back();
  return page;
}

Written write_pairs(const std::vector<fs::path>& from, const fs::path& folder, uint64_t seed) {
  Library library;
  std::unordered_map<std::string, int64_t> by_source;
  // Section folders are known by their paths, which "." and a slash at the end would hide.
  for (const fs::path& path : from) collect(whole_path(path), library, by_source);
  const std::set<Pair> linked = linked_pairs(library);
  Written written{std::ssize(library.documents), std::ssize(linked), {}};

  std::vector<int64_t> order(library.documents.size());
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, Random(seed, 0));
  const int64_t bounds[] = {0, written.pages * 6 / 10, written.pages * 8 / 10, written.pages};
  std::array<std::vector<Labelled>, 3> splits;
  for (size_t s = 0; s < 3; ++s) {
    const std::vector<int64_t> members(order.begin() + bounds[s], order.begin() + bounds[s + 1]);
    splits[s] = pairs_of_split(library, linked, members, Random(seed, 1 + s));
    written.pairs[s] = std::ssize(splits[s]);
    if (splits[s].empty()) {
      fail("retrieval: ", written.pages, " pages with ", written.citations,
           " citations give no pairs for a split, expected some hundred pages below ",
           from.front().string(), " in folders man/man1 to man/man9");
    }
  }

  make_folder(folder);
  const FolderLock lock(folder.string());
  std::vector<std::unique_ptr<FileWriter>> files;
  for (size_t s = 0; s < 3; ++s) {
    FileWriter& file =
        *files.emplace_back(std::make_unique<FileWriter>((folder / kPairFiles[s]).string()));
    for (const Labelled& p : splits[s]) {
      const Document& a = library.documents[static_cast<size_t>(p.pair.first)];
      const Document& b = library.documents[static_cast<size_t>(p.pair.second)];
      file.write(
          join(p.label, '\t', a.name, '\t', b.name, '\t', a.page.text, '\t', b.page.text, '\n'));
    }
  }
  for (const auto& file : files) file->commit();
  return written;
}

}  // namespace yoso::manpages
