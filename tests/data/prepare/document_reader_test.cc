#include "data/prepare/document_reader.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/prepare/temp_folder.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<std::vector<RawDocument>> ReadAll(const std::string& path, DocumentRule rule, absl::string_view separator = "") {
  JEVONS_ASSIGN_OR_RETURN(const InputFile input, InputFileFor(path));
  JEVONS_ASSIGN_OR_RETURN(DocumentReader reader, DocumentReader::Open(input, rule, separator));
  std::vector<RawDocument> documents;
  while (true) {
    JEVONS_ASSIGN_OR_RETURN(std::optional<RawDocument> document, reader.Next());
    if (!document) return documents;
    documents.push_back(*std::move(document));
  }
}

// The documents of a file; their offsets are checked on the way.
std::vector<std::string> Documents(absl::string_view text, DocumentRule rule, const std::string& name = "a.txt",
                                   absl::string_view separator = "") {
  const TempFolder folder;
  const auto documents = ReadAll(folder.Write(name, text), rule, separator);
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
    EXPECT_THAT(Documents("{\"a\":1}\n\n  \n{\"b\":\f2}", rule, "a.jsonl"), ElementsAre("{\"a\":1}\n", "{\"b\":\f2}"));
  }
}

TEST(DocumentReaderTest, SkipsAByteOrderMark) {
  EXPECT_THAT(Documents("\xEF\xBB\xBFone\n\n\xEF\xBB\xBFtwo", DocumentRule::kBlankLine), ElementsAre("one", "\xEF\xBB\xBFtwo"));
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
  EXPECT_THAT(Documents(std::string(3 << 20, 'x'), DocumentRule::kBlankLine), ElementsAre(std::string(3 << 20, 'x')));
}

TEST(DocumentReaderTest, AUsersSeparatorSeparatesWhereverItStands) {
  const auto documents = [](absl::string_view text) { return Documents(text, DocumentRule::kSeparator, "a.txt", "<|end|>"); };
  EXPECT_THAT(documents("a\n\nb\f\n<|end|>\n\nc<|end|>d<|end|><|end|>\n<|end|>"), ElementsAre("a\n\nb\f", "c", "d"));
  EXPECT_THAT(documents("a<|en\nd|><|end|\r\n"), ElementsAre("a<|en\nd|><|end|"));
  EXPECT_THAT(documents("<|end|>"), ElementsAre());
  // Across the buffer's end, at every place.
  for (size_t before = (1 << 20) - 9; before < (1 << 20) + 2; ++before) {
    const std::string front(before, 'x');
    EXPECT_THAT(documents(front + "<|end|>tail"), ElementsAre(front, "tail"));
  }
}

TEST(DocumentReaderTest, MarksADocumentThatIsTooLongAndGoesOnBehindIt) {
  const TempFolder folder;
  const std::string megabyte(1 << 20, 'x');
  std::string one_line = "a\n\nb\n\n", many_lines = one_line, one_separated = "a<>b\n\n\n\n<>";
  for (int i = 0; i < (kMaxDocumentBytes >> 20) + 1; ++i) {
    one_line += megabyte;
    one_separated += megabyte;
    many_lines += megabyte + "\n";
  }
  const auto check = [&](const std::string& name, const std::string& text, DocumentRule rule, absl::string_view separator) {
    const auto documents = ReadAll(folder.Write(name, text), rule, separator);
    ASSERT_TRUE(documents.ok()) << documents.status();
    ASSERT_EQ(documents->size(), 4u);
    EXPECT_FALSE((*documents)[1].too_long);
    EXPECT_TRUE((*documents)[2].too_long);
    EXPECT_TRUE((*documents)[2].bytes.empty());
    EXPECT_EQ((*documents)[2].line, 5);
    EXPECT_EQ(text.substr((*documents)[2].offset, 10), "xxxxxxxxxx");
    EXPECT_FALSE((*documents)[3].too_long);
    EXPECT_EQ(absl::StripAsciiWhitespace((*documents)[3].bytes), "last");
    EXPECT_EQ((*documents)[3].line, 1 + std::count(text.begin(), text.begin() + (*documents)[3].offset, '\n'));
  };
  check("a.txt", one_line + "\n\nlast\n", DocumentRule::kBlankLine, "");
  check("a.txt", many_lines + "\n\nlast\n", DocumentRule::kBlankLine, "");
  check("a.txt", one_separated + "<>last", DocumentRule::kSeparator, "<>");
  check("a.jsonl", one_line + "\nlast\n", DocumentRule::kBlankLine, "");
}

TEST(DocumentReaderTest, RefusesAForeignFileBehindACompression) {
  const TempFolder folder;
  const auto documents = ReadAll(folder.Write("a.jsonl.zst", ZstdCompress(ZstdCompress("{}"))), DocumentRule::kBlankLine);
  EXPECT_EQ(ExitCodeOf(documents.status()), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(documents.status().message()), HasSubstr("a.jsonl.zst: is compressed with zstd"));
}

TEST(DocumentReaderTest, KnowsRulesByTheirName) {
  for (const DocumentRule rule : {DocumentRule::kBlankLine, DocumentRule::kFormFeed, DocumentRule::kFile}) {
    EXPECT_EQ(DocumentRuleFor(DocumentRuleName(rule)).value(), rule);
  }
  EXPECT_EQ(ExitCodeOf(DocumentRuleFor("line").status()), ExitCode::kUsage);
  EXPECT_EQ(ExitCodeOf(DocumentRuleFor("separator").status()), ExitCode::kUsage) << "it takes more than the name";
}

}  // namespace
}  // namespace jevons
