#include "data/prepare/document_reader.h"

#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/prepare/temp_folder.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<std::vector<RawDocument>> ReadAll(const std::string& path, DocumentRule rule) {
  JEVONS_ASSIGN_OR_RETURN(const InputFile input, InputFileFor(path));
  JEVONS_ASSIGN_OR_RETURN(DocumentReader reader, DocumentReader::Open(input, rule));
  std::vector<RawDocument> documents;
  while (true) {
    JEVONS_ASSIGN_OR_RETURN(std::optional<RawDocument> document, reader.Next());
    if (!document) return documents;
    documents.push_back(*std::move(document));
  }
}

// The documents of a file; their offsets are checked on the way.
std::vector<std::string> Documents(absl::string_view text, DocumentRule rule,
                                   const std::string& name = "a.txt") {
  const TempFolder folder;
  const auto documents = ReadAll(folder.Write(name, text), rule);
  EXPECT_TRUE(documents.ok()) << documents.status();
  std::vector<std::string> bytes;
  for (const RawDocument& document : *documents) {
    EXPECT_EQ(text.substr(document.offset, document.bytes.size()), document.bytes);
    EXPECT_EQ(document.line, 1 + std::count(text.begin(), text.begin() + document.offset, '\n'));
    bytes.push_back(document.bytes);
  }
  return bytes;
}

TEST(DocumentReaderTest, BlankLinesAndFormFeedsSeparate) {
  const auto documents = [](absl::string_view text) { return Documents(text, DocumentRule::kBlankLine); };
  EXPECT_THAT(documents(""), ElementsAre());
  EXPECT_THAT(documents("\n \n\f\t\n"), ElementsAre());
  EXPECT_THAT(documents("a"), ElementsAre("a"));
  EXPECT_THAT(documents("a\n"), ElementsAre("a"));
  EXPECT_THAT(documents("a\nb\n\nc"), ElementsAre("a\nb", "c"));
  EXPECT_THAT(documents("\n\n  a \n \t \n\n\nb\r\n\r\nc\r\n"), ElementsAre("  a ", "b", "c"));
  EXPECT_THAT(documents("a\fb\f\fc\n\fd\n"), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(documents("a\n\f\nb"), ElementsAre("a", "b"));
}

TEST(DocumentReaderTest, OnlyFormFeedsSeparate) {
  const auto documents = [](absl::string_view text) { return Documents(text, DocumentRule::kFormFeed); };
  EXPECT_THAT(documents("a\n\nb\n\f\nc\n\n\fd"), ElementsAre("a\n\nb", "c", "d"));
  EXPECT_THAT(documents("\f \f\n"), ElementsAre());
}

TEST(DocumentReaderTest, AFileIsOneDocumentToTheByte) {
  const std::string text = "\n a\n\n\fb \n\n";
  EXPECT_THAT(Documents(text, DocumentRule::kFile), ElementsAre(text));
  EXPECT_THAT(Documents(" \n", DocumentRule::kFile), ElementsAre());
}

TEST(DocumentReaderTest, JsonLinesIgnoreTheRule) {
  for (const DocumentRule rule : {DocumentRule::kBlankLine, DocumentRule::kFormFeed, DocumentRule::kFile}) {
    EXPECT_THAT(Documents("{\"a\":1}\n\n  \n{\"b\":\f2}", rule, "a.jsonl"),
                ElementsAre("{\"a\":1}\n", "{\"b\":\f2}"));
  }
}

TEST(DocumentReaderTest, SkipsAByteOrderMark) {
  EXPECT_THAT(Documents("\xEF\xBB\xBFone\n\n\xEF\xBB\xBFtwo", DocumentRule::kBlankLine),
              ElementsAre("one", "\xEF\xBB\xBFtwo"));
}

TEST(DocumentReaderTest, ReadsAcrossItsBuffer) {
  std::string text;
  std::vector<std::string> expected;
  for (int i = 0; i < 40; ++i) {
    expected.push_back(std::string(1 + i * 3571 % 200000, static_cast<char>('a' + i % 26)));
    text += expected.back() + "\n" + expected.back() + "\n\n";
    expected.back() += "\n" + std::string(expected.back());
  }
  EXPECT_EQ(Documents(text, DocumentRule::kBlankLine), expected);
  EXPECT_THAT(Documents(std::string(3 << 20, 'x'), DocumentRule::kBlankLine),
              ElementsAre(std::string(3 << 20, 'x')));
}

TEST(DocumentReaderTest, RefusesADocumentThatIsTooLong) {
  const TempFolder folder;
  const std::string megabyte(1 << 20, 'x');
  std::string one_line = "a\n\nb\n\n", many_lines = one_line;
  for (int i = 0; i < (kMaxDocumentBytes >> 20) + 1; ++i) {
    one_line += megabyte;
    many_lines += megabyte + "\n";
  }
  for (const std::string& text : {one_line, many_lines}) {
    const absl::Status status = ReadAll(folder.Write("a.txt", text), DocumentRule::kBlankLine).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("a.txt:5: a document of more than 64 MiB begins here"));
  }
}

TEST(DocumentReaderTest, KnowsInputsByTheirSuffix) {
  EXPECT_EQ(InputFileFor("x/a.txt")->format, TextFormat::kPlain);
  EXPECT_EQ(InputFileFor("a.jsonl")->format, TextFormat::kJsonLines);
  EXPECT_EQ(InputFileFor("a.txt.zst")->compression, Compression::kZstd);
  EXPECT_EQ(InputFileFor("a.jsonl.zst")->format, TextFormat::kJsonLines);
  for (const std::string path : {"a", "a.json", "a.zst", "a.txt.gz", "a.parquet", "-", ""}) {
    const absl::Status status = InputFileFor(path).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    EXPECT_THAT(std::string(status.message()), HasSubstr(".txt, .jsonl, .txt.zst or .jsonl.zst"));
  }
}

TEST(DocumentReaderTest, KnowsRulesByTheirName) {
  for (const DocumentRule rule : {DocumentRule::kBlankLine, DocumentRule::kFormFeed, DocumentRule::kFile}) {
    EXPECT_EQ(DocumentRuleFor(DocumentRuleName(rule)).value(), rule);
  }
  EXPECT_EQ(ExitCodeOf(DocumentRuleFor("line").status()), ExitCode::kUsage);
}

}  // namespace
}  // namespace jevons
