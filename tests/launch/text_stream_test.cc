// Text in pieces: characters and stops that pieces cut.
#include "launch/text_stream.h"

#include <gtest/gtest.h>

#include "data/tokenizer/unicode.h"
#include "kernels/base/philox.h"

namespace jevons {
namespace {

TEST(TextStream, ShowsWholeCharactersAsTheyCome) {
  TextStream stream;
  EXPECT_EQ(stream.Push("ab"), "ab");
  EXPECT_EQ(stream.Push("\xE2\x82"), "");
  EXPECT_EQ(stream.Push("\xAC!"), "€!");
  EXPECT_EQ(stream.Push("\xF0\x9F\x98"), "");
  EXPECT_EQ(stream.Push("\x80"), "😀");
  EXPECT_EQ(stream.Push("\xC3"), "");
  EXPECT_EQ(stream.Finish(), "\uFFFD");
}

// What can become no character is not waited for.
TEST(TextStream, ReplacesWhatIsNoUtf8) {
  for (const char* bytes : {"\xFF", "\xC0", "\xE0\x80", "\xED\xA0", "\xF4\x90", "\xF5", "\x80"}) {
    TextStream stream;
    EXPECT_EQ(stream.Push(bytes), ReplaceInvalidUtf8(bytes)) << testing::PrintToString(bytes);
    EXPECT_EQ(stream.Finish(), "");
  }
}

TEST(TextStream, PiecesDoNotMatter) {
  const std::string alphabet[] = {"a", "b", "\xE2", "\x82", "\xAC", "\xF0", "\x9F", "\x98", "\x80", "\xED", "\xE0"};
  for (uint64_t text = 0; text < 300; ++text) {
    std::string bytes;
    for (uint64_t i = 0; i < 40; ++i) bytes += alphabet[RandomBits(text, 0, i) % std::size(alphabet)];
    const std::vector<std::string> stops = {"aba", "bb€", "a\uFFFD"};
    TextStream whole(stops), pieces(stops);
    std::string expected = whole.Push(bytes);
    expected += whole.Finish();
    std::string shown;
    for (size_t begin = 0; begin < bytes.size();) {
      const size_t count = 1 + RandomBits(text, 1, begin) % 4;
      const std::string piece = pieces.Push(bytes.substr(begin, count));
      EXPECT_EQ(FirstInvalidUtf8(piece), piece.size());
      shown += piece;
      begin += count;
    }
    shown += pieces.Finish();
    EXPECT_EQ(shown, expected);
    EXPECT_EQ(pieces.stopped(), whole.stopped());
  }
}

TEST(TextStream, EndsBeforeAStopThatPiecesCut) {
  TextStream stream({"END", "never"});
  EXPECT_EQ(stream.Push("a E"), "a ");
  EXPECT_EQ(stream.Push("N"), "");
  EXPECT_EQ(stream.Push("T EN"), "ENT ");
  EXPECT_EQ(stream.Push("D more"), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.Push("more"), "");
  EXPECT_EQ(stream.Finish(), "");
  TextStream open({"END"});
  EXPECT_EQ(open.Push("an E"), "an ");
  EXPECT_EQ(open.Finish(), "E");
  EXPECT_FALSE(open.stopped());
}

}  // namespace
}  // namespace jevons
