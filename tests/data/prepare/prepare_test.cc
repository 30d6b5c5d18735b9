#include "data/prepare/prepare.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "data/index/indexed_dataset.h"
#include "data/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"
#include "tests/data/prepare/gzip.h"
#include "tests/data/prepare/temp_folder.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// Documents of random words from a small dictionary, some with several lines; the last ones are long.
std::vector<std::string> RandomDocuments(int n) {
  std::mt19937_64 random(8);
  std::vector<std::string> dictionary;
  for (int i = 0; i < 500; ++i) {
    std::string word(1 + random() % 8, ' ');
    for (char& c : word) c = static_cast<char>('a' + random() % 26);
    dictionary.push_back(i % 10 == 0 ? word + "é," : word);
  }
  std::vector<std::string> documents;
  for (int d = 0; d < n; ++d) {
    std::string text = dictionary[random() % 500];
    for (uint64_t words = random() % (d + 10 < n ? 200 : 20000); words > 0; --words) {
      text += (random() % 12 == 0 ? "\n" : " ") + dictionary[random() % 500];
    }
    documents.push_back(text);
  }
  return documents;
}

std::string AsPlainText(const std::vector<std::string>& documents) {
  std::string text;
  for (size_t d = 0; d < documents.size(); ++d) text += documents[d] + (d % 3 == 0 ? "\f" : "\n\n");
  return text;
}

std::string AsJsonLines(const std::vector<std::string>& documents) {
  std::string lines;
  for (const std::string& text : documents) {
    lines += nlohmann::json({{"id", 5}, {"body", text}}).dump() + "\n";
    if (text.size() % 5 == 0) lines += "\n{\"body\": \"\"}\n";  // blank lines and empty documents do not count
  }
  return lines;
}

// The documents of one side, as text; each must end with the end-of-sentence token.
std::vector<std::string> Decoded(const std::string& folder, const std::string& side) {
  const Tokenizer tokenizer = Tokenizer::Load(folder + "/tokenizer.json").value();
  const IndexedDataset dataset = IndexedDataset::Open(folder + "/" + side, tokenizer.vocab_size()).value();
  std::vector<std::string> documents;
  for (int64_t d = 0; d < dataset.documents(); ++d) {
    std::vector<int32_t> ids(dataset.DocumentLength(d));
    EXPECT_TRUE(dataset.Read(dataset.DocumentStart(d), ids).ok());
    EXPECT_EQ(ids.back(), tokenizer.eos_id());
    ids.pop_back();
    documents.push_back(tokenizer.Decode(ids).value());
  }
  return documents;
}

class PrepareTest : public testing::Test {
 protected:
  PrepareTest() {
    options_.output = folder_ / "data";
    options_.vocab_size = 400;
    options_.validation_fraction = 0.1;
    options_.threads = 2;
  }
  void ExpectError(ExitCode code, absl::string_view message) {
    const absl::Status status = Prepare(options_).status();
    EXPECT_EQ(ExitCodeOf(status), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(message)));
    EXPECT_FALSE(fs::exists(options_.output));
    EXPECT_FALSE(fs::exists(options_.output + ".partial"));
  }

  TempFolder folder_;
  PrepareOptions options_;
};

TEST_F(PrepareTest, MakesADatasetOfPlainText) {
  const std::vector<std::string> documents = RandomDocuments(300);
  options_.inputs = {folder_.Write("a.txt", AsPlainText(documents))};
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto train = Decoded(options_.output, "train"), validation = Decoded(options_.output, "validation");

  std::vector<std::string> joined;  // in order, each document is on one of the sides
  size_t t = 0, v = 0, bytes = 0;
  for (const std::string& text : documents) {
    bytes += text.size();
    if (t < train.size() && train[t] == text) {
      ++t;
    } else {
      ASSERT_LT(v, validation.size());
      ASSERT_EQ(validation[v++], text);
    }
  }
  EXPECT_EQ(t, train.size());
  EXPECT_EQ(v, validation.size());
  EXPECT_GT(v, 10);
  EXPECT_LT(v, 60);

  const DatasetInfo& info = report->info;
  EXPECT_EQ(info.vocab_size, 400);
  EXPECT_EQ(info.train.documents, static_cast<int64_t>(train.size()));
  EXPECT_EQ(info.validation.documents, static_cast<int64_t>(validation.size()));
  EXPECT_EQ(info.train.bytes + info.validation.bytes, static_cast<int64_t>(bytes));
  EXPECT_EQ(info.train.tokens, IndexedDataset::Open(options_.output + "/train", 400)->tokens());
  EXPECT_EQ(LoadDatasetInfo(options_.output).value(), info);
  EXPECT_EQ(info.files.size(), 7);
  EXPECT_TRUE(VerifyDataset(options_.output, info).ok());
  EXPECT_FALSE(fs::exists(options_.output + ".partial"));
}

TEST_F(PrepareTest, EveryInputFormatGivesTheSameDataset) {
  const std::vector<std::string> documents = RandomDocuments(100);
  const std::string text = AsPlainText(documents), lines = AsJsonLines(documents);
  const std::string inputs[] = {
      folder_.Write("a.txt", text),
      folder_.Write("b.txt.zst", ZstdCompress(text)),
      folder_.Write("c.jsonl", lines),
      folder_.Write("e.txt.gz", GzipCompress(text)),
      folder_.Write("f.NDJSON.gz", GzipCompress(lines.substr(0, 777)) + GzipCompress(lines.substr(777))),
      folder_.Write("g.json", "\xEF\xBB\xBF" + absl::StrReplaceAll(lines, {{"\n", "\r\n"}})),
      folder_.Write("d.jsonl.zst", ZstdCompress(lines.substr(0, 1000)) + ZstdCompress(lines.substr(1000)))};
  options_.text_field = "body";
  std::optional<DatasetInfo> first;
  for (const std::string& input : inputs) {
    options_.inputs = {input};
    options_.output = input + ".data";
    const auto report = Prepare(options_);
    ASSERT_TRUE(report.ok()) << report.status();
    if (!first) first = report->info;
    EXPECT_EQ(report->info, *first) << input;  // the hashes of the files among it
  }
}

TEST_F(PrepareTest, DoesNotDependOnThreads) {
  const std::vector<std::string> documents = RandomDocuments(1500);
  options_.inputs = {folder_.Write("a.txt", AsPlainText(documents)), folder_.Write("b.jsonl", AsJsonLines(documents))};
  options_.text_field = "body";
  std::optional<DatasetInfo> first;
  for (const int threads : {1, 2, 4}) {
    options_.threads = threads;
    options_.output = folder_ / absl::StrCat("data", threads);
    const auto report = Prepare(options_);
    ASSERT_TRUE(report.ok()) << report.status();
    if (!first) first = report->info;
    EXPECT_EQ(report->info, *first) << threads;
  }
}

TEST_F(PrepareTest, UsesAGivenTokenizerAsItIs) {
  options_.inputs = {folder_.Write("a.txt", AsPlainText(RandomDocuments(50)))};
  ASSERT_TRUE(Prepare(options_).ok());
  std::string tokenizer = ReadWholeFile(options_.output + "/tokenizer.json");
  tokenizer += " \n";  // still the same tokenizer, not the same bytes
  options_.tokenizer = folder_.Write("given.json", tokenizer);
  options_.vocab_size = 0;
  options_.output = folder_ / "again";
  options_.inputs = {folder_.Write("b.txt", "other <｜end▁of▁sentence｜> text\n\nsecond")};
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->info.vocab_size, 400);
  EXPECT_EQ(ReadWholeFile(options_.output + "/tokenizer.json"), tokenizer);
  // The text of a special token is text.
  std::vector<std::string> both = Decoded(options_.output, "train");
  both.push_back(Decoded(options_.output, "validation")[0]);
  EXPECT_THAT(both, testing::UnorderedElementsAre("other <｜end▁of▁sentence｜> text", "second"));
}

TEST_F(PrepareTest, TrainsTheTokenizerOnASample) {
  // The front of each file: "ab" a lot; behind it "cd" even more.
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "ab ab ab\n\n";
  for (int i = 0; i < 20000; ++i) text += "cd cd cd\n\n";
  options_.inputs = {folder_.Write("a.txt", text)};
  options_.vocab_size = 263;
  options_.tokenizer_sample_bytes = 10000;
  ASSERT_TRUE(Prepare(options_).ok());
  EXPECT_EQ(Tokenizer::Load(options_.output + "/tokenizer.json")->TokenBytes(262), "ab");
  options_.tokenizer_sample_bytes = 1 << 20;
  options_.overwrite = true;
  ASSERT_TRUE(Prepare(options_).ok());
  EXPECT_EQ(Tokenizer::Load(options_.output + "/tokenizer.json")->TokenBytes(262), "cd");
}

TEST_F(PrepareTest, ASingleDocumentIsForTraining) {
  options_.inputs = {folder_.Write("a.txt", "In the beginning\nwas the word\n")};
  options_.vocab_size = 262;
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->info.train, (SplitInfo{1, 29 + 1, 29}));  // bytes, and the end
  EXPECT_EQ(report->info.validation, SplitInfo{});
  EXPECT_FALSE(fs::exists(options_.output + "/validation.bin"));
  EXPECT_THAT(Decoded(options_.output, "train"), ElementsAreArray({"In the beginning\nwas the word"}));
}

TEST_F(PrepareTest, FollowsTheDocumentRule) {
  options_.inputs = {folder_.Write("a.txt", "a\n\nb\n\fc\n")};
  options_.vocab_size = 262;
  for (const auto& [rule, documents] :
       {std::pair(DocumentRule::kBlankLine, 3), std::pair(DocumentRule::kFormFeed, 2), std::pair(DocumentRule::kFile, 1)}) {
    options_.document_rule = rule;
    options_.overwrite = true;
    const auto report = Prepare(options_);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->info.train.documents + report->info.validation.documents, documents);
  }
}

TEST_F(PrepareTest, CutsAtAUsersSeparator) {
  options_.inputs = {folder_.Write("a.txt", "one\n\nstill one\n<|endoftext|>\ntwo<|endoftext|>three\n")};
  options_.vocab_size = 262;
  options_.document_rule = DocumentRule::kSeparator;
  options_.document_separator = "<|endoftext|>";
  options_.validation_fraction = 0;
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(Decoded(options_.output, "train"), ElementsAreArray({"one\n\nstill one", "two", "three"}));
  EXPECT_EQ(report->info.document_rule, "separator");
  EXPECT_EQ(report->info.document_separator, "<|endoftext|>");
  EXPECT_EQ(LoadDatasetInfo(options_.output).value(), report->info);
}

TEST_F(PrepareTest, EndsDocumentsWithTheTokenThatIsNamed) {
  std::string json = ReadWholeFile(SourcePath("tests/golden/tokenizer/gpt2.json"));
  options_.inputs = {folder_.Write("a.txt", "one\n\ntwo")};
  options_.tokenizer = folder_.Write("given.json", json);
  options_.vocab_size = 0;
  options_.end_token = "<left>";
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->info.end_token, "<left>");
  // Whoever reads the folder's tokenizer.json ends documents with it; Decoded checks that they do.
  const Tokenizer tokenizer = Tokenizer::Load(options_.output + "/tokenizer.json").value();
  EXPECT_EQ(tokenizer.eos_id(), *tokenizer.AddedTokenId("<left>"));
  EXPECT_EQ(Decoded(options_.output, "train").size() + Decoded(options_.output, "validation").size(), 2u);
  EXPECT_EQ(tokenizer.Encode("It's 12"), Tokenizer::FromJson(json, "f")->Encode("It's 12"));

  options_.output = folder_ / "data2";
  options_.end_token = "<none>";
  ExpectError(ExitCode::kUsage, "given.json: end token: \"<none>\" is no added token; some are \"<|endoftext|>\"");
  // A tokenizer without a usual name needs the option.
  options_.tokenizer = folder_.Write("given.json", absl::StrReplaceAll(json, {{"<|endoftext|>", "<|done|>"}}));
  options_.end_token = "";
  ExpectError(ExitCode::kIntegrity, "`jevons prepare --end-token` to name another");
  options_.end_token = "<|done|>";
  EXPECT_EQ(Prepare(options_)->info.end_token, "<|done|>");
}

TEST_F(PrepareTest, LeavesOutBadLinesOnRequestOnly) {
  const std::string lines =
      "{\"text\": \"rain on the hill\"}\n"
      "{\"text\": 7}\n"                                                                           // 2: another type
      "{\"title\": \"no text\"}\n"                                                                // 3: no such field
      "not JSON\n"                                                                                // 4
      "{\"text\": \"caf\xE9\"}\n"                                                                 // 5: not UTF-8
      "{\"text\": \"cut \\ud83d\"}\n"                                                             // 6: half a pair
      "{\"text\": \"a quiet road\", \"score\": NaN, \"title\": \"cut \\ud83d\", \"n\": 1e400}\n"  // sound
      "\n"
      "{\"text\": \"\"}\n"  // empty
      "{\"text\": \"hole\"}" +
      std::string(3, '\0') +
      "{\"text\": \"behind it\"}\n"  // 10
      "\xEF\xBB\xBF{\"text\": \"the last line\"}\r\n"
      "{\"text\": \"torn";  // 12: a crash
  options_.inputs = {folder_.Write("a.jsonl", lines), folder_.Write("b.txt", "caf\xE9\n\nsound\n"),
                     folder_.Write("none.jsonl", "\n\n")};
  options_.vocab_size = 262;
  options_.validation_fraction = 0;
  ExpectError(ExitCode::kIntegrity, "a.jsonl:2: field \"text\" is a number, not a string");

  options_.on_bad_line = BadLine::kSkip;
  testing::internal::CaptureStderr();
  const auto report = Prepare(options_);
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(Decoded(options_.output, "train"),
              ElementsAreArray({"rain on the hill", "a quiet road", "the last line", "sound"}));
  EXPECT_EQ(report->info.bad_documents, 8);
  EXPECT_EQ(report->empty_documents, 1);
  EXPECT_EQ(LoadDatasetInfo(options_.output)->bad_documents, 8);
  for (const char* said : {"left out: ", "a.jsonl:2: field", "8 bad documents in all", "1 documents without text",
                           "none.jsonl: holds no document"}) {
    EXPECT_THAT(log, HasSubstr(said));
  }
  // Each one alone stops a run that does not ask for it, and is named by its line.
  const std::vector<std::string> all = absl::StrSplit(lines, '\n');
  options_.on_bad_line = BadLine::kError;
  options_.output = folder_ / "data2";
  for (const int line : {2, 3, 4, 5, 6, 10, 12}) {
    options_.inputs = {folder_.Write("c.jsonl", std::string(line - 1, '\n') + all[line - 1])};
    ExpectError(ExitCode::kIntegrity, absl::StrCat("c.jsonl:", line, ": "));
  }
  options_.on_bad_line = BadLine::kSkip;
  ExpectError(ExitCode::kIntegrity, "the inputs hold no text: no document was found in them, 1 were bad, 0 empty");
}

// A stream that breaks off loses what nobody can count: it is an error under either policy.
TEST_F(PrepareTest, ATornStreamIsAnErrorUnderEitherPolicy) {
  options_.on_bad_line = BadLine::kSkip;
  const std::string lines = AsJsonLines(RandomDocuments(30));
  options_.text_field = "body";
  const std::string zst = ZstdCompress(lines), gz = GzipCompress(lines);
  options_.inputs = {folder_.Write("a.jsonl.zst", zst.substr(0, zst.size() - 3))};
  ExpectError(ExitCode::kIntegrity, "a.jsonl.zst: ends inside a zstd frame");
  options_.inputs = {folder_.Write("a.jsonl.gz", gz.substr(0, gz.size() - 3))};
  ExpectError(ExitCode::kIntegrity, "a.jsonl.gz: ends inside a gzip member");
}

TEST_F(PrepareTest, SaysWhichOptionsHaveNoEffect) {
  options_.inputs = {folder_.Write("a.jsonl", "{\"text\": \"one\"}\n")};
  options_.vocab_size = 262;
  options_.document_rule = DocumentRule::kFile;
  testing::internal::CaptureStderr();
  EXPECT_TRUE(Prepare(options_).ok());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("document rule \"file\" has no effect: no input is plain text"));
  options_.inputs = {folder_.Write("a.txt", "one")};
  options_.text_field = "body";
  options_.overwrite = true;
  testing::internal::CaptureStderr();
  EXPECT_TRUE(Prepare(options_).ok());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("text field \"body\" has no effect: no input is of JSON lines"));
}

TEST_F(PrepareTest, ReadsAFolder) {
  fs::create_directories(folder_ / "in/more");
  folder_.Write("in/2.txt", "two");
  folder_.Write("in/1.jsonl", "{\"text\": \"one\"}\n");
  folder_.Write("in/more/3.txt.gz", GzipCompress("three"));
  folder_.Write("in/._2.txt", std::string("\0\x05\x16\x07", 4));
  options_.inputs = {folder_ / "in"};
  options_.vocab_size = 262;
  options_.validation_fraction = 0;
  ASSERT_TRUE(Prepare(options_).ok());
  EXPECT_THAT(Decoded(options_.output, "train"), ElementsAreArray({"one", "two", "three"}));
  options_.inputs = {folder_ / "in", folder_ / "in/2.txt"};
  options_.output = folder_ / "data2";
  ExpectError(ExitCode::kUsage, "are the same file");
}

TEST_F(PrepareTest, RunAgainIsSafe) {
  options_.inputs = {folder_.Write("a.txt", AsPlainText(RandomDocuments(20)))};
  const auto first = Prepare(options_);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(ExitCodeOf(Prepare(options_).status()), ExitCode::kUsage);  // not silently replaced
  options_.overwrite = true;
  EXPECT_EQ(Prepare(options_)->info, first->info);
  // A failure leaves the old one.
  options_.inputs = {folder_.Write("b.txt", "\xFF")};
  EXPECT_FALSE(Prepare(options_).ok());
  EXPECT_EQ(LoadDatasetInfo(options_.output).value(), first->info);
  EXPECT_FALSE(fs::exists(options_.output + ".partial"));
}

// Killed at any instant, it leaves the old dataset or the new one, whole; and the next run goes through.
TEST_F(PrepareTest, SurvivesBeingKilled) {
  const std::string inputs[] = {folder_.Write("a.txt", AsPlainText(RandomDocuments(40))),
                                folder_.Write("b.txt", AsPlainText(RandomDocuments(60)))};
  options_.overwrite = true;
  DatasetInfo infos[2];
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {
    options_.inputs = {inputs[i]};
    const auto report = Prepare(options_);
    ASSERT_TRUE(report.ok()) << report.status();
    infos[i] = report->info;
    seconds = std::max(seconds, report->seconds);
  }
  constexpr int kTrials = 12;
  for (int trial = 0; trial < kTrials; ++trial) {
    options_.inputs = {inputs[trial % 2]};
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(Prepare(options_).ok() ? 0 : 1);
    usleep(static_cast<useconds_t>(1e6 * seconds * 1.2 * trial / kTrials));
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    const auto info = LoadDatasetInfo(options_.output);
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_TRUE(*info == infos[0] || *info == infos[1]);
    EXPECT_TRUE(VerifyDataset(options_.output, *info).ok());
  }
  EXPECT_EQ(Prepare(options_)->info, infos[(kTrials - 1) % 2]);
  EXPECT_FALSE(fs::exists(options_.output + ".partial"));
}

TEST_F(PrepareTest, RefusesOptions) {
  const std::string input = folder_.Write("a.txt", "some text");
  ExpectError(ExitCode::kUsage, "input: name at least one file");
  options_.inputs = {input};
  options_.vocab_size = 261;
  ExpectError(ExitCode::kUsage, "vocab_size: 261 is not legal; the 6 special tokens and 256 bytes need at least 262");
  options_.vocab_size = 0;
  ExpectError(ExitCode::kUsage, "give either vocab_size");
  options_.vocab_size = 300;
  options_.tokenizer = "tokenizer.json";
  ExpectError(ExitCode::kUsage, "give either vocab_size");
  options_.vocab_size = 0;
  options_.tokenizer = folder_ / "missing.json";
  ExpectError(ExitCode::kIntegrity, "missing.json: cannot open");
  options_.tokenizer = folder_.Write("bad.json", "{}");
  ExpectError(ExitCode::kIntegrity, "bad.json: version is null");
  options_.tokenizer = "";
  options_.vocab_size = 300;
  for (const double fraction : {-0.1, 1.0, std::nan("")}) {
    options_.validation_fraction = fraction;
    ExpectError(ExitCode::kUsage, "validation_fraction");
  }
  options_.validation_fraction = 0.1;
  options_.threads = -1;
  ExpectError(ExitCode::kUsage, "threads: -1");
  options_.threads = 1;
  options_.tokenizer_sample_bytes = 0;
  ExpectError(ExitCode::kUsage, "tokenizer_sample_bytes: 0");
  options_.tokenizer_sample_bytes = 1;
  options_.text_field = "";
  ExpectError(ExitCode::kUsage, "text_field");
  options_.end_token = "</s>";
  ExpectError(ExitCode::kUsage, "end_token: is for a given tokenizer");
  options_.document_separator = "<>";
  ExpectError(ExitCode::kUsage, "document_separator: is for the rule of that name only");
  options_.document_rule = DocumentRule::kSeparator;
  for (const char* separator : {"a\nb", "caf\xE9"}) {
    options_.document_separator = separator;
    ExpectError(ExitCode::kUsage, "document_separator: must be UTF-8 without line breaks");
  }
  options_.document_separator = "";
  ExpectError(ExitCode::kUsage, "document_separator: is for the rule of that name only, and not empty there");
}

TEST_F(PrepareTest, RefusesInputs) {
  options_.inputs = {folder_ / "missing.txt"};
  ExpectError(ExitCode::kIntegrity, "missing.txt: cannot open: No such file");
  options_.inputs = {folder_.Write("a.pdf", "x")};
  ExpectError(ExitCode::kUsage, "a.pdf: unknown kind of input");
  options_.inputs = {folder_.Write("lfs.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")};
  ExpectError(ExitCode::kIntegrity, "lfs.jsonl: is a Git LFS pointer");
  options_.inputs = {folder_.Write("a.txt", "x"), folder_ / "./a.txt"};
  ExpectError(ExitCode::kUsage, "are the same file");
  options_.inputs = {folder_.Write("empty.txt", ""), folder_.Write("blank.jsonl", "\n\n")};
  ExpectError(ExitCode::kIntegrity, "the inputs hold no text");
  options_.inputs = {folder_.Write("latin.txt", "sound\n\ncaf\xE9\n")};
  ExpectError(ExitCode::kIntegrity, "latin.txt:3: byte 10 (0xE9) is not UTF-8");
  options_.inputs = {folder_.Write("bad.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b\"\n")};
  ExpectError(ExitCode::kIntegrity, "bad.jsonl:3: not valid JSON");
  const std::string frame = ZstdCompress(std::string(100000, 'x') + " y");
  options_.inputs = {folder_.Write("torn.txt.zst", frame.substr(0, frame.size() - 3))};
  ExpectError(ExitCode::kIntegrity, "torn.txt.zst: ends inside a zstd frame");
}

TEST_F(PrepareTest, SaysWhenTheOutputCannotBeWritten) {
  options_.inputs = {folder_.Write("a.txt", AsPlainText(RandomDocuments(300)))};
  options_.output = folder_ / "a.txt/data";
  ExpectError(ExitCode::kFailure, "cannot create its parent folder");
}

// A limit on the size of files stands for a full disk: the write fails in the same way.
TEST_F(PrepareTest, AFullDiskLeavesNothing) {
  options_.inputs = {folder_.Write("a.txt", AsPlainText(RandomDocuments(1000)))};
  options_.vocab_size = 262;
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = 100000;  // room for the tokenizer, not for the tokens
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  ExpectError(ExitCode::kFailure, "File too large");
  limit.rlim_cur = before;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_TRUE(Prepare(options_).ok());
}

}  // namespace
}  // namespace jevons
