// The format: what is written, byte by byte, and every way in which a file can break its rules.
#include "trainer/files/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/memory_disk.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Length(uint64_t n) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[static_cast<size_t>(i)] = static_cast<char>(n >> (8 * i));
  return bytes;
}

std::string FileOf(const std::string& header, const std::string& data) { return Length(header.size()) + header + data; }

void Put(FileSystem& files, const std::string& path, const std::string& contents) {
  auto file = files.Open(path, OpenMode::kWrite);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(WriteAll(**file, std::as_bytes(std::span(contents)), path).ok());
}

std::string Refusal(const std::string& contents) {
  MemoryDisk disk;
  Put(disk, "/x.safetensors", contents);
  const auto file = SafetensorsFile::Open(disk, "/x.safetensors");
  EXPECT_FALSE(file.ok()) << contents;
  EXPECT_EQ(ExitCodeOf(file.status()), ExitCode::kIntegrity) << file.status();
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("/x.safetensors"));
  return std::string(file.status().message());
}

TEST(Safetensors, WritesTheFormatByteByByte) {
  MemoryDisk disk;
  auto writer = SafetensorsWriter::Create(disk, "/x.safetensors",
                                          {{"b", kStBF16, {1}}, {"a", kStF32, {2, 1}}, {"c", kStBF16, {0, 3}}}, {{"k", "v"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<std::string> order;
  for (const SafetensorsSpec& spec : writer->order()) order.push_back(spec.name);
  EXPECT_THAT(order, ElementsAre("a", "b", "c"));
  const std::string data = "01234567xy";
  for (const char& c : data) ASSERT_TRUE(writer->Append(std::as_bytes(std::span(&c, 1))).ok());
  EXPECT_FALSE(disk.Stat("/x.safetensors")->has_value()) << "there before it is whole";
  ASSERT_TRUE(writer->Finish().ok());
  std::string header =
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},)"
      R"("c":{"dtype":"BF16","shape":[0,3],"data_offsets":[10,10]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(disk.Contents("/x.safetensors"), FileOf(header, data));
  EXPECT_THAT(*disk.List("/"), ElementsAre("x.safetensors"));

  auto file = SafetensorsFile::Open(disk, "/x.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().at("k"), "v");
  ASSERT_NE(file->Find("a"), nullptr);
  EXPECT_EQ(file->Find("aa"), nullptr);
  std::byte middle[3];
  ASSERT_TRUE(file->Read(*file->Find("a"), 2, middle).ok());
  EXPECT_EQ(std::string(reinterpret_cast<char*>(middle), 3), "234");
  EXPECT_EQ(file->Find("c")->elements, 0);
}

TEST(Safetensors, AnUnfinishedWriterLeavesNothing) {
  MemoryDisk disk;
  {
    auto writer = SafetensorsWriter::Create(disk, "/x.safetensors", {{"a", kStF32, {2}}});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->Append(std::as_bytes(std::span("123", 3))).ok());
    SafetensorsWriter moved = std::move(*writer);
    EXPECT_FALSE(disk.List("/")->empty());
  }
  EXPECT_TRUE(disk.List("/")->empty());
}

TEST(Safetensors, OnlyFilesAreReplaced) {
  MemoryDisk disk;
  ASSERT_TRUE(disk.MakeDirectory("/folder").ok());
  EXPECT_EQ(ExitCodeOf(SafetensorsWriter::Create(disk, "/folder", {}).status()), ExitCode::kUsage);
  EXPECT_FALSE(SafetensorsWriter::Create(PosixFileSystem(), "/dev/full", {}).ok());
}

TEST(Safetensors, ReadsWhatTheFormatAllows) {
  MemoryDisk disk;
  const auto opens = [&](const std::string& contents) {
    Put(disk, "/x.safetensors", contents);
    return SafetensorsFile::Open(disk, "/x.safetensors").status();
  };
  EXPECT_TRUE(opens(FileOf("{}", "")).ok());
  EXPECT_TRUE(opens(FileOf("{}      ", "")).ok());
  EXPECT_TRUE(opens(FileOf(R"({"a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}})", "1234")).ok()) << "no dims: one element";
  EXPECT_TRUE(
      opens(FileOf(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                   "123"))
          .ok());
  EXPECT_TRUE(opens(FileOf(R"({"__metadata__":{},"z":{"dtype":"F64","shape":[5,0],"data_offsets":[0,0]}})", "")).ok());
}

// As the format's own library 0.8.0 does.
TEST(Safetensors, ReadsTypesThatShareBytes) {
  MemoryDisk disk;
  const auto elements = [&](const std::string& contents) -> int64_t {
    Put(disk, "/x.safetensors", contents);
    const auto file = SafetensorsFile::Open(disk, "/x.safetensors");
    return file.ok() ? file->entries().at(0).elements : -1;
  };
  EXPECT_EQ(elements(FileOf(R"({"a":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}})", "123")), 6);
  for (const char* type : {"F6_E2M3", "F6_E3M2"})
    EXPECT_EQ(elements(FileOf(absl::StrCat(R"({"a":{"dtype":")", type, R"(","shape":[8],"data_offsets":[0,6]}})"), "123456")), 8)
        << type;
  EXPECT_EQ(elements(FileOf(R"({"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1")), 1);
  EXPECT_THAT(Refusal(FileOf(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", "12")),
              HasSubstr("F4 [3] does not fill whole bytes"));
  EXPECT_THAT(Refusal(FileOf(R"({"a":{"dtype":"F6_E2M3","shape":[8],"data_offsets":[0,8]}})", "12345678")),
              HasSubstr("takes 6 bytes"));
}

TEST(Safetensors, OnlyBlanksFillTheHeaderUp) {
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  MemoryDisk disk;
  Put(disk, "/x.safetensors", FileOf(header + "   ", "1"));
  EXPECT_TRUE(SafetensorsFile::Open(disk, "/x.safetensors").ok());
  EXPECT_THAT(Refusal(FileOf(header + std::string(2, '\0'), "1")),
              HasSubstr(absl::StrCat("a NUL character at byte ", header.size())));
  std::string inside = header;
  inside.insert(5, 1, '\0');
  EXPECT_THAT(Refusal(FileOf(inside, "1")), HasSubstr("a NUL character at byte 5"));
}

TEST(Safetensors, NamesFilesOfOtherKinds) {
  EXPECT_THAT(Refusal("version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 123456\n"),
              AllOf(HasSubstr("Git LFS pointer"), HasSubstr("git lfs pull")));
  EXPECT_THAT(Refusal(std::string("\0\x05\x16\x07\0\x02\0\0Mac OS X        ", 24)), HasSubstr("AppleDouble"));
  EXPECT_THAT(Refusal("PK\x03\x04"), HasSubstr("zip"));
  // 0x8b1f bytes of header begin as gzip does.
  MemoryDisk disk;
  std::string header = "{}";
  header.resize(0x8b1f, ' ');
  Put(disk, "/x.safetensors", FileOf(header, ""));
  EXPECT_TRUE(SafetensorsFile::Open(disk, "/x.safetensors").ok());
}

TEST(Safetensors, RefusesFilesThatAreNone) {
  EXPECT_THAT(Refusal(""), HasSubstr("too few"));
  EXPECT_THAT(Refusal("1234567"), HasSubstr("too few"));
  EXPECT_THAT(Refusal(Length(uint64_t{1} << 63) + "{}"), HasSubstr("9223372036854775808"));
  EXPECT_THAT(Refusal(Length(std::numeric_limits<uint64_t>::max()) + "{}"), HasSubstr("format allows 100000000"));
  EXPECT_THAT(Refusal(Length(100'000'001) + "{}"), HasSubstr("format allows"));
  EXPECT_THAT(Refusal(Length(100'000'000) + "{}"), HasSubstr("truncated"));
  EXPECT_THAT(Refusal(Length(3) + "{}"), HasSubstr("truncated"));
  EXPECT_THAT(Refusal(Length(0)), HasSubstr("not a JSON object"));
  EXPECT_THAT(Refusal(FileOf(" {}", "")), HasSubstr("not a JSON object"));
  EXPECT_THAT(Refusal(FileOf("[]", "")), HasSubstr("not a JSON object"));
  EXPECT_THAT(Refusal(FileOf("{", "")), HasSubstr("not JSON"));
  EXPECT_THAT(Refusal(FileOf("{}x", "")), HasSubstr("not JSON"));
  EXPECT_THAT(Refusal(FileOf("{\"\xff\":1}", "")), HasSubstr("not JSON"));
}

TEST(Safetensors, RefusesHeadersThatBreakARule) {
  struct Case {
    const char *header, *data, *expected;
  };
  const Case cases[] = {
      {R"({"a":1})", "", "\"a\" is 1"},
      {R"({"a":[]})", "", "\"a\" is an array"},
      {R"({"a":{}})", "", "needs dtype, shape and data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", "", "needs dtype"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", "1234", "unknown key \"x\""},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234", "\"dtype\" is given twice"},
      {R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", "1234", "unknown dtype \"F99\""},
      {R"({"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}})", "1234", "an array"},
      {R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", "1234", "\"shape\" is 1"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234", "-1"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "1234", "1.0"},
      {R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", "1234", "an array"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", "1234", "beyond 2^63"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})", "1234", "overflows"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}})", "1234", "overflows"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", "1234", "3 numbers, not 2"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234", "takes 4 bytes"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234", "F32 [2] takes 8 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "123", "truncated"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "12345", "the file has 5"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "12", "begins at byte 1 of the data, not at 0"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", "123",
       "\"b\" begins at byte 1"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "12",
       "\"a\" is given twice"},
      {R"({"__metadata__":{"a":1}})", "", "\"a\" is 1"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", "", "given twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", "", "given twice"},
      {R"({"__metadata__":null,"__metadata__":null})", "", "given twice"},
      {R"({"__metadata__":{"a":{}}})", "", "an object"},
      {R"({"a":{"dtype":null,"shape":[1],"data_offsets":[0,4]}})", "1234", "null"},
  };
  for (const Case& test : cases) EXPECT_THAT(Refusal(FileOf(test.header, test.data)), HasSubstr(test.expected)) << test.header;
}

// Deep nesting must not exhaust the stack, nor a long header the memory.
TEST(Safetensors, RefusesNestingAtOnce) {
  EXPECT_THAT(Refusal(FileOf("{\"a\":" + std::string(1'000'000, '['), "")), HasSubstr("\"a\" is an array"));
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += "\"shape\":{";
  EXPECT_THAT(Refusal(FileOf(objects, "")), HasSubstr("an object"));
}

// One byte changed anywhere in a good file: refused, or read as some good file; never more than its own bytes.
TEST(Safetensors, SurvivesEveryChangedByte) {
  const std::string good =
      FileOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[4,8]}} )",
             "12345678");
  MemoryDisk disk;
  for (size_t at = 0; at < good.size() - 8; ++at) {
    for (const char value : {'\0', '"', '9', '-', '{', '}', '\xff'}) {
      std::string bad = good;
      bad[at] = value;
      Put(disk, "/x.safetensors", bad);
      auto file = SafetensorsFile::Open(disk, "/x.safetensors");
      if (!file.ok()) {
        EXPECT_EQ(ExitCodeOf(file.status()), ExitCode::kIntegrity) << file.status();
        continue;
      }
      for (const SafetensorsEntry& entry : file->entries()) {
        std::vector<std::byte> bytes(static_cast<size_t>(entry.end - entry.begin));
        ASSERT_LE(bytes.size(), 8u);
        EXPECT_TRUE(file->Read(entry, 0, bytes).ok());
      }
    }
  }
}

}  // namespace
}  // namespace jevons
