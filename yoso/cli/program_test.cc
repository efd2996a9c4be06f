// The program as a user meets it: what it prints, what it leaves, how it exits.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "yoso/core/check.h"

namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Result {
  int code;
  std::string out, error;
};

class Program : public testing::Test {
 protected:
  Program()
      : folder_(yoso::join(testing::TempDir(), "yoso_program_test_",
                           testing::UnitTest::GetInstance()->current_test_info()->name(), "_",
                           getpid())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    write("toy.toml", R"([task]
name = "reversal"
length = 8
symbols = 4
dev_size = 16
test_size = 16
[model]
kind = "token_classifier"
layers = 1
hidden = 16
feed_forward = 16
[train]
steps = 4
batch_size = 4
evaluate_every = 2
checkpoint_every = 2
threads = 1
)");
  }
  ~Program() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  std::string read(const std::string& name) {
    std::ostringstream text;
    text << std::ifstream(folder_ + "/" + name, std::ios::binary).rdbuf();
    return text.str();
  }
  bool exists(const std::string& name) { return std::filesystem::exists(folder_ + "/" + name); }

  // Runs a line of shell in the test's folder, where `yoso` is the program.
  Result run(const std::string& line) {
    const int status =
        std::system(("cd '" + folder_ + "' && yoso() { '" YOSO_PROGRAM "' \"$@\"; } && { " + line +
                     "; } >out 2>error")
                        .c_str());
    return {WEXITSTATUS(status), read("out"), read("error")};
  }

  // The error is one line, and says all of `message`.
  void expect_error(const std::string& line, int code, const std::string& message) {
    const Result result = run(line);
    EXPECT_EQ(result.code, code) << line << "\n" << result.error;
    EXPECT_THAT(result.error, StartsWith("yoso: "));
    EXPECT_THAT(result.error, HasSubstr(message)) << line;
    EXPECT_EQ(std::ranges::count(result.error, '\n'), 1) << result.error;
  }

  std::string folder_;
};

TEST_F(Program, HelpTeaches) {
  const Result result = run("yoso --help");
  EXPECT_EQ(result.code, 0);
  for (const char* command :
       {"train", "evaluate", "predict", "convert", "data", "bench", "report", "info"})
    EXPECT_THAT(result.out, HasSubstr(command));
  EXPECT_THAT(run("yoso train --help").out, HasSubstr("--resume"));
  EXPECT_THAT(run("yoso bench methods --help").out, HasSubstr("--heads INT=4 "));
  EXPECT_THAT(run("yoso bench crossover --help").out, HasSubstr("=forward+backward ..."));
  EXPECT_THAT(run("yoso --version").out, StartsWith("yoso 0"));
}

TEST_F(Program, WrongUseExitsWith2) {
  expect_error("yoso", 2, "see yoso --help");
  expect_error("yoso trian", 2, "see yoso --help");
  expect_error("yoso train", 2, "RECIPE is required; see yoso train --help");
  expect_error("yoso train toy.toml --fast", 2, "--fast");
}

TEST_F(Program, WrongRecipesAreNamed) {
  expect_error("yoso train no.toml", 1, "no.toml: cannot open: No such file");
  write("bad.toml", "[train]\nstep = 3\n");
  expect_error("yoso train bad.toml", 1, "bad.toml:2: unknown key train.step, expected one of");
  expect_error("yoso train toy.toml --set train.steps=many", 1,
               "--set train.steps=many: train.steps is a string, expected an integer");
  expect_error("yoso train toy.toml --set task.name=chess --out run", 1, "chess");
  expect_error("yoso train toy.toml --set task.lenght=8 --out run", 1, "lenght");
  expect_error("yoso train toy.toml --set model.attention.kind=nosuch --out run", 1, "nosuch");
  expect_error("yoso train toy.toml --set model.attention.heads=3 --out run", 1, "heads");
  EXPECT_FALSE(exists("run/last.safetensors"));
  expect_error("yoso train toy.toml --out \"$(printf 'a\\377')\"", 1, "expected UTF-8");
  EXPECT_FALSE(exists("a\xff"));
}

TEST_F(Program, DevicesThatAreNotThereAreNamed) {
  expect_error("yoso train toy.toml --device gpu", 1,
               "--device is 'gpu', expected cpu, cuda or a GPU such as cuda:1");
  for (const char* command : {"train toy.toml", "evaluate run", "predict run"})
    expect_error(std::string("yoso ") + command + " --device cuda:127", 1,
                 "--device is 'cuda:127', expected c");
}

TEST_F(Program, TrainsEvaluatesAndPredicts) {
  const Result trained = run("yoso train toy.toml --out run");
  EXPECT_EQ(trained.code, 0) << trained.error;
  EXPECT_THAT(trained.out, HasSubstr("run/best.safetensors: best of step"));
  EXPECT_THAT(trained.error, HasSubstr("step 4/4  loss "));
  for (const char* file : {"run/best.safetensors", "run/last.safetensors", "run/recipe.toml",
                           "run/run.jsonl", "run/events.out.tfevents.yoso"})
    EXPECT_TRUE(exists(file)) << file;
  EXPECT_THAT(read("run/recipe.toml"), HasSubstr("vocab_size = 5"));

  const auto score = [&](const std::string& arguments) {
    const Result result = run("yoso evaluate " + arguments + " | sed 's/, [^,]* s$//'");
    EXPECT_EQ(result.error, "");
    return result.out;
  };
  EXPECT_THAT(score("run"), HasSubstr("test loss "));
  EXPECT_THAT(score("run"), HasSubstr("all 16 examples"));
  EXPECT_EQ(score("run --mode sampled"), score("run --mode sampled"));
  EXPECT_NE(score("run --mode sampled"), score("run --mode expected"));
  EXPECT_THAT(run("yoso evaluate run --json").out, HasSubstr("\"split\":\"test\""));
  EXPECT_THAT(
      run("name=$(printf 'a\\377'); ln -s run \"$name\"; yoso evaluate \"$name\" --json").out,
      HasSubstr("\"checkpoint\":\"a\ufffd/best.safetensors\""));
  expect_error("yoso evaluate run --mode none", 1, "expected one of \"expected\", \"sampled\"");
  expect_error("yoso evaluate run --split all", 1, "expected train, dev or test");
  expect_error("yoso train toy.toml --out run", 1, "run: holds a run already; --resume");

  const Result predicted = run("printf '0 1 2 3 0 1 2 3\\n3 2 1\\n' | yoso predict run");
  EXPECT_EQ(predicted.code, 0) << predicted.error;
  EXPECT_EQ(std::ranges::count(predicted.out, '\n'), 2);
  EXPECT_EQ(std::ranges::count(predicted.out.substr(0, predicted.out.find('\n')), ' '), 7);
  expect_error("printf '0 1\\n0 x\\n' | yoso predict run", 1, "standard input:2: ");
  // One line a line: an empty one has no answer and ends nothing.
  const std::string answer = run("printf '3 2 1\\n' | yoso predict run").out;
  EXPECT_EQ(run("printf '\\n3 2 1\\n  \\n\\n3 2 1' | yoso predict run").out,
            "\n" + answer + "\n\n" + answer);
  expect_error("yoso predict run no.txt", 1, "no.txt: cannot be read");
  expect_error("{ echo 0 1 | yoso predict run >/dev/full; }", 1, "standard output: cannot write");
}

TEST_F(Program, ClassesComeWithProbabilities) {
  std::filesystem::create_directories(folder_ + "/docs");
  write("docs/train.tsv", "good\tfine film\nbad\tpoor film\ngood\tnice\nbad\tdull\n");
  write("docs/dev.tsv", "good\tfine\nbad\tpoor\n");
  const std::string set =
      " --set task.name=text --set task.data=docs --set model.kind=classifier --out run";
  write("text.toml",
        "[task]\nname = \"text\"\nmax_length = 64\n[model]\nhidden = 16\n"
        "[train]\nsteps = 2\nbatch_size = 2\nthreads = 1\n");
  const Result trained = run("yoso train text.toml" + set);
  EXPECT_EQ(trained.code, 0) << trained.error;
  std::filesystem::remove_all(folder_ + "/docs");  // predict needs none
  const Result predicted = run("echo 'a fine film' | yoso predict run");
  EXPECT_EQ(predicted.code, 0) << predicted.error;
  EXPECT_THAT(predicted.out, testing::MatchesRegex("(good|bad)\tbad=0[.][0-9]+ good=0[.][0-9]+\n"));
  EXPECT_EQ(run("printf 'a fine film\\r\\n\\r\\n' | yoso predict run").out, predicted.out + "\n");

  write("text.tsv", "");
  std::filesystem::create_directories(folder_ + "/docs");
  write("docs/train.tsv", "good\tfine film\nno tab here\n");
  std::filesystem::remove_all(folder_ + "/run");
  expect_error("yoso train text.toml" + set, 1, "train.tsv:2: ");
  EXPECT_FALSE(exists("run/last.safetensors"));
}

TEST_F(Program, BadCheckpointsAreNamed) {
  ASSERT_EQ(run("yoso train toy.toml --out run").code, 0);
  expect_error("yoso evaluate nowhere", 1, "nowhere: cannot open");
  expect_error("mkdir empty; yoso evaluate empty", 1, "empty: holds no checkpoint");
  expect_error("head -c 1000 run/best.safetensors >cut; yoso evaluate cut", 1, "cut: ");
  expect_error("head -c -1 run/best.safetensors >cut; yoso predict cut", 1, "cut: tensor \"");
  expect_error("printf '\\377\\377\\377\\377\\377\\377\\377\\177{}' >huge; yoso evaluate huge", 1,
               "huge: header length is 9223372036854775807, expected at most");
}

TEST_F(Program, AFullDiskLeavesNoPartialCheckpoint) {
  expect_error(
      "ulimit -f 8; yoso train toy.toml --out run 2>&1 >/dev/null | grep ^yoso >&2; "
      "exit ${PIPESTATUS:-1}",
      1, "safetensors: cannot write: File too large");
  EXPECT_FALSE(exists("run/last.safetensors"));
  EXPECT_FALSE(exists("run/best.safetensors"));
  EXPECT_FALSE(exists("run/best.safetensors.tmp"));
}

TEST_F(Program, CtrlCSavesAndSaysHowToGoOn) {
  const Result stopped =
      run("'" YOSO_PROGRAM
          "' train toy.toml --out run --set train.steps=1000000 & child=$!; "
          "while kill -0 $child && ! grep -q '\"step\":5' run/run.jsonl 2>/dev/null; "
          "do sleep 0.05; done; "
          "kill -TERM $child; wait $child");
  EXPECT_EQ(stopped.code, 130) << stopped.error;
  EXPECT_THAT(stopped.error, HasSubstr("and saved; go on with: yoso train toy.toml --set "
                                       "'train.steps=1000000' --out run --resume\n"));
  EXPECT_TRUE(exists("run/last.safetensors"));
  EXPECT_THAT(run("yoso train toy.toml --out run --resume").error,
              HasSubstr("expected at most train.steps = 4"));
}

TEST_F(Program, ASuiteThatIsKilledGoesOn) {
  std::filesystem::rename(folder_ + "/toy.toml", folder_ + "/listops.toml");
  const std::string suite =
      " lra run --recipes . --tasks listops --methods none --out suite --set train.steps=300"
      " --set train.evaluate_test=true";
  const Result killed = run("'" YOSO_PROGRAM "'" + suite +
                            " & child=$!; while kill -0 $child && ! grep -q '\"step\":5' "
                            "suite/listops/none/0/run.jsonl 2>/dev/null; do sleep 0.01; done; "
                            "kill -KILL $child; wait $child");
  EXPECT_EQ(killed.code, 128 + 9) << killed.error;
  EXPECT_THAT(killed.error, HasSubstr("listops none seed 0: training 0.00"));
  const Result resumed = run("yoso" + suite);
  EXPECT_EQ(resumed.code, 0) << resumed.error;
  EXPECT_THAT(resumed.error, HasSubstr("listops none seed 0: resuming after step "));
  EXPECT_EQ(resumed.out, "suite: 1 runs done, 0 were before, 0 are another process's\n");
  EXPECT_EQ(run("grep -c learning_rate suite/listops/none/0/run.jsonl").out, "300\n");
  EXPECT_EQ(run("yoso" + suite).out,
            "suite: 0 runs done, 1 were before, 0 are another process's\n");
}

// The models have the 12 tokens of a tokenizer that is written here.
TEST_F(Program, PredictsWithAModelOfTransformersAndConvertsIt) {
  std::filesystem::copy(YOSO_TESTDATA "/sequence", folder_ + "/model");
  expect_error("echo a | yoso predict model", 1, "model: holds no tokenizer, expected ");
  write("model/vocab.json",
        R"({"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4, "c": 5, "?": 6, "!": 7, "d": 8})");
  write("model/merges.txt", "a b\n");
  const Result predicted = run("printf 'ab\\n\\nabc\\td\\n' | yoso predict model --mode expected");
  EXPECT_EQ(predicted.code, 0) << predicted.error;
  const std::string line = "(no|yes|maybe)\tno=0[.][0-9]+ yes=0[.][0-9]+ maybe=0[.][0-9]+\n";
  EXPECT_THAT(predicted.out, testing::MatchesRegex(line + "\n" + line));
  expect_error("printf 'a\\nabcabcabc\\n' | yoso predict model", 1,
               "standard input:2: has 8 tokens, expected 1 to 7; --truncate cuts it off");
  EXPECT_EQ(run("echo abcabcabc | yoso predict model --truncate").code, 0);

  EXPECT_EQ(run("yoso convert model half --dtype bfloat16").code, 0);
  EXPECT_LT(std::filesystem::file_size(folder_ + "/half/model.safetensors"),
            std::filesystem::file_size(folder_ + "/model/model.safetensors"));
  EXPECT_EQ(run("yoso convert half again && echo ab | yoso predict again").code, 0);
  expect_error("yoso convert model half --dtype int8", 2, "--dtype");
  expect_error("yoso convert nothing half", 1, "nothing/config.json: ");
}

}  // namespace
