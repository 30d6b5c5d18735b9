#include "trainer/metrics/tensorboard.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/machine.h"
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

std::string StartEvent(double wall_time, int64_t first_step) {
  std::string event, session;
  AppendVarint(1 << 3, session);
  AppendVarint(1, session);
  AppendDouble(1, wall_time, event);
  AppendVarint(2 << 3, event);
  AppendVarint(static_cast<uint64_t>(first_step), event);
  AppendBytes(7, session, event);
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

absl::StatusOr<EventFile> EventFile::Create(const std::string& folder, double wall_time, int64_t first_step) {
  constexpr absl::string_view kPrefix = "events.out.tfevents.";
  auto seconds = static_cast<int64_t>(wall_time);
  std::error_code unreadable;  // said when the file cannot be made
  for (const auto& entry : std::filesystem::directory_iterator(folder, unreadable)) {
    const std::string name = entry.path().filename();
    int64_t earlier = 0;
    if (absl::StartsWith(name, kPrefix) &&
        absl::SimpleAtoi(absl::string_view(name).substr(kPrefix.size(), name.find('.', kPrefix.size()) - kPrefix.size()),
                         &earlier))
      seconds = std::max(seconds, earlier + 1);
  }
  JEVONS_ASSIGN_OR_RETURN(AppendFile file,
                          AppendFile::Create(absl::StrCat(folder, "/", kPrefix, seconds, ".", HostName(), ".", getpid())));
  JEVONS_RETURN_IF_ERROR(file.Append(FramedRecord(VersionEvent(wall_time)) + FramedRecord(StartEvent(wall_time, first_step))));
  return EventFile(std::move(file));
}

absl::Status EventFile::Append(const MetricsRecord& record) {
  std::set<std::string> shown = record.step == step_ ? shown_ : std::set<std::string>();
  MetricsRecord rest{.step = record.step, .wall_time = record.wall_time, .values = {}};
  for (const auto& [name, value] : record.values)
    if (shown.insert(name).second) rest.values.emplace_back(name, value);
  JEVONS_RETURN_IF_ERROR(file_.Append(FramedRecord(ScalarEvent(rest))));
  step_ = record.step;
  shown_ = std::move(shown);
  return absl::OkStatus();
}

}  // namespace jevons
