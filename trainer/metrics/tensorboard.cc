#include "trainer/metrics/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr uint32_t kCastagnoli = 0x82F63B78;  // reversed polynomial

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kCastagnoli : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

template <typename T>
void AppendLittleEndian(T value, std::string& out) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

uint32_t Masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u; }

// Protobuf's wire format: a key is number << 3 | type; type 0 varint, 1 64-bit, 2 bytes, 5 32-bit.
void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}
void AppendDouble(int number, double value, std::string& out) {
  AppendVarint(number << 3 | 1, out);
  AppendLittleEndian(std::bit_cast<uint64_t>(value), out);
}
void AppendFloat(int number, float value, std::string& out) {
  AppendVarint(number << 3 | 5, out);
  AppendLittleEndian(std::bit_cast<uint32_t>(value), out);
}
void AppendBytes(int number, absl::string_view value, std::string& out) {
  AppendVarint(number << 3 | 2, out);
  AppendVarint(value.size(), out);
  absl::StrAppend(&out, value);
}

std::string HostName() {
  char name[256] = "localhost";
  gethostname(name, sizeof(name) - 1);  // on failure the name stays
  return name;
}

}  // namespace

uint32_t Crc32c(absl::string_view data) {
  uint32_t crc = ~0u;
  for (const char c : data) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~crc;
}

std::string FramedRecord(absl::string_view data) {
  std::string record;
  AppendLittleEndian(static_cast<uint64_t>(data.size()), record);
  AppendLittleEndian(Masked(Crc32c(record)), record);
  absl::StrAppend(&record, data);
  AppendLittleEndian(Masked(Crc32c(data)), record);
  return record;
}

std::string VersionEvent(double wall_time) {
  std::string event;
  AppendDouble(1, wall_time, event);
  AppendBytes(3, "brain.Event:2", event);
  return event;
}

std::string ScalarEvent(const MetricsRecord& record) {
  std::string summary;
  for (const auto& [name, number] : record.values) {
    std::string value;
    AppendBytes(1, name, value);
    AppendFloat(2, static_cast<float>(number), value);
    AppendBytes(1, value, summary);
  }
  std::string event;
  AppendDouble(1, record.wall_time, event);
  AppendVarint(2 << 3, event);
  AppendVarint(static_cast<uint64_t>(record.step), event);
  AppendBytes(5, summary, event);
  return event;
}

absl::StatusOr<EventFile> EventFile::Create(const std::string& folder, double wall_time) {
  const std::string name = absl::StrCat(folder, "/events.out.tfevents.", static_cast<int64_t>(wall_time), ".",
                                        HostName(), ".", getpid());
  absl::StatusOr<AppendFile> file = AppendFile::Create(name);
  for (int n = 1; absl::IsAlreadyExists(file.status()); ++n)
    file = AppendFile::Create(absl::StrCat(name, ".", n));
  if (!file.ok()) return file.status();
  JEVONS_RETURN_IF_ERROR(file->Append(FramedRecord(VersionEvent(wall_time))));
  return EventFile(*std::move(file));
}

absl::Status EventFile::Append(const MetricsRecord& record) {
  return file_.Append(FramedRecord(ScalarEvent(record)));
}

}  // namespace jevons
