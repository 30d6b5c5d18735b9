#include "tests/parallel/collective_checks.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/philox.h"
#include "tests/parallel/stream_memory.h"

namespace jevons {
namespace {

// What rank `from` sends to rank `to` in round `round` at position `at`: every rank can compute it.
std::byte Content(int64_t round, int from, int to, int64_t at) {
  return static_cast<std::byte>(RandomBits(round, from * 1000 + to, at));
}
void AppendContent(int64_t round, int from, int to, int64_t bytes, std::vector<std::byte>& buffer) {
  for (int64_t i = 0; i < bytes; ++i) buffer.push_back(Content(round, from, to, i));
}
// One transfer in three is empty; the others differ from each other in size.
int64_t PartBytes(int64_t round, int from, int to) {
  const uint64_t bits = RandomBits(round + 1'000'000, from, to);
  return bits % 3 == 0 ? 0 : static_cast<int64_t>(bits / 3 % 300);
}

struct RandomExchange {
  std::vector<int64_t> send_bytes, recv_bytes;
  std::vector<std::byte> send, recv, expected;

  RandomExchange(const Communicator& group, int64_t round) {
    for (int r = 0; r < group.size(); ++r) {
      send_bytes.push_back(PartBytes(round, group.rank(), r));
      AppendContent(round, group.rank(), r, send_bytes.back(), send);
      recv_bytes.push_back(PartBytes(round, r, group.rank()));
      AppendContent(round, r, group.rank(), recv_bytes.back(), expected);
    }
    recv.resize(expected.size());
  }
  CommRequest Begin(Communicator& group) { return group.BeginAllToAllV(send, send_bytes, recv, recv_bytes); }
};

}  // namespace

void CheckBarrier(Communicator& group) {
  for (int i = 0; i < 50; ++i) group.Barrier();
}

void CheckAllGather(Communicator& group) {
  for (int64_t bytes : {0, 1, 7, 4096}) {
    std::vector<std::byte> send, expected;
    AppendContent(bytes, group.rank(), 0, bytes, send);
    for (int r = 0; r < group.size(); ++r) AppendContent(bytes, r, 0, bytes, expected);
    std::vector<std::byte> recv(expected.size());
    group.AllGather(send, recv);
    EXPECT_EQ(recv, expected);
  }
  for (int64_t round = 0; round < 20; ++round) {
    std::vector<std::byte> send, expected;
    std::vector<int64_t> bytes;
    AppendContent(round, group.rank(), 0, PartBytes(round, group.rank(), 0), send);
    for (int r = 0; r < group.size(); ++r) {
      bytes.push_back(PartBytes(round, r, 0));
      AppendContent(round, r, 0, bytes.back(), expected);
    }
    std::vector<std::byte> recv(expected.size());
    group.AllGatherV(send, recv, bytes);
    EXPECT_EQ(recv, expected);
  }
}

namespace {

// Several in one transfer, some of which have nothing for a rank that others have something for.
void CheckExchangesTogether(Communicator& group) {
  for (int64_t round = 0; round < 50; ++round) {
    std::vector<RandomExchange> exchanges;
    std::vector<Exchange> together;
    for (int i = 0; i < 3; ++i) exchanges.emplace_back(group, 2000 + 3 * round + i);
    for (RandomExchange& e : exchanges) together.push_back({e.send, e.send_bytes, e.recv, e.recv_bytes});
    group.Wait(group.BeginAllToAllV({}, together));
    for (const RandomExchange& e : exchanges) ASSERT_EQ(e.recv, e.expected) << "round " << round;
  }
}

}  // namespace

void CheckAllToAllV(Communicator& group) {
  CheckExchangesTogether(group);
  for (int64_t round = 0; round < 200; ++round) {
    RandomExchange exchange(group, round);
    group.AllToAllV(exchange.send, exchange.send_bytes, exchange.recv, exchange.recv_bytes);
    ASSERT_EQ(exchange.recv, exchange.expected) << "round " << round;
  }
}

void CheckInterleaved(Communicator& group) {
  constexpr int kTransfers = 5;
  std::vector<RandomExchange> exchanges;
  std::vector<CommRequest> requests;
  for (int i = 0; i < kTransfers; ++i) exchanges.emplace_back(group, 500 + i);
  for (RandomExchange& exchange : exchanges) requests.push_back(exchange.Begin(group));
  group.Barrier();  // other calls may come between
  for (int i = 0; i < kTransfers; ++i) {
    const int at = (group.rank() + i * 2) % kTransfers;
    group.Wait(requests[at]);
    EXPECT_EQ(exchanges[at].recv, exchanges[at].expected);
  }
}

void CheckReductions(Communicator& group) {
  for (int64_t length : {0, 1, 5, 1000}) {
    std::vector<int64_t> sum(length), max(length), expected_sum(length, 0), expected_max(length, INT64_MIN);
    const auto value = [](int rank, int64_t i) { return static_cast<int64_t>(RandomBits(3, rank, i)) >> 8; };
    for (int64_t i = 0; i < length; ++i) {
      sum[i] = max[i] = value(group.rank(), i);
      for (int r = 0; r < group.size(); ++r) {
        expected_sum[i] += value(r, i);
        expected_max[i] = std::max(expected_max[i], value(r, i));
      }
    }
    group.AllReduceSum(sum);
    group.AllReduceMax(max);
    EXPECT_EQ(sum, expected_sum);
    EXPECT_EQ(max, expected_max);
  }
}

void CheckBroadcast(Communicator& group) {
  for (int root = 0; root < group.size(); ++root) {
    for (int64_t bytes : {0, 1, 5000}) {
      std::vector<std::byte> data, expected;
      AppendContent(bytes, root, 0, bytes, expected);
      AppendContent(bytes, group.rank(), 0, bytes, data);  // everybody but the root has something else
      group.Broadcast(data, root);
      EXPECT_EQ(data, expected);
    }
  }
}

void CheckEmptyCalls(Communicator& group) {
  const std::vector<int64_t> nothing(group.size(), 0);
  group.AllToAllV({}, nothing, {}, nothing);
  group.AllGather({}, {});
  group.AllGatherV({}, {}, nothing);
  group.AllReduceSum({});
  group.AllReduceMax({});
  group.ReduceScatterSum({}, {});
  group.Broadcast({}, group.size() - 1);
}

void CheckLargeParts(Communicator& group) {
  constexpr int64_t kBytes = 3 << 20;
  const std::vector<int64_t> bytes(group.size(), kBytes);
  std::vector<std::byte> send(kBytes * group.size()), recv(send.size());
  for (int r = 0; r < group.size(); ++r) {
    std::fill_n(send.begin() + r * kBytes, kBytes, static_cast<std::byte>(group.rank() * 16 + r));
  }
  group.AllToAllV(send, bytes, recv, bytes);
  for (int r = 0; r < group.size(); ++r) {
    const auto expected = static_cast<std::byte>(r * 16 + group.rank());
    EXPECT_EQ(std::count(recv.begin() + r * kBytes, recv.begin() + (r + 1) * kBytes, expected), kBytes);
  }
}

void CheckSubgroups(Communicator& world) {
  const auto odd = world.Split(world.rank() % 2 == 0 ? -7 : 40, "parity");  // a color is any number
  EXPECT_EQ(odd->rank(), world.rank() / 2);
  EXPECT_EQ(odd->size(), (world.size() + 1 - world.rank() % 2) / 2);
  EXPECT_EQ(odd->name(), "parity");
  const auto single = world.Split(world.rank(), "single");
  EXPECT_EQ(single->size(), 1);
  const auto pair = odd->Split(odd->rank() / 2, "pair");
  EXPECT_EQ(pair->rank(), odd->rank() % 2);
  // Transfers of both groups at once, ended in the other order.
  RandomExchange first(*odd, 900), second(*pair, 901), third(world, 902);
  const CommRequest a = first.Begin(*odd), b = second.Begin(*pair), c = third.Begin(world);
  world.Wait(c);
  pair->Wait(b);
  odd->Wait(a);
  EXPECT_EQ(first.recv, first.expected);
  EXPECT_EQ(second.recv, second.expected);
  EXPECT_EQ(third.recv, third.expected);
  for (Communicator* group : {odd.get(), single.get(), pair.get()}) {
    CheckAllGather(*group);
    CheckInterleaved(*group);
    CheckReductions(*group);
    CheckBroadcast(*group);
  }
}

void CheckBackground(Communicator& world) {
  const auto group = world.Split(0, "background");
  group->MoveInBackground();
  for (int64_t round = 0; round < 20; ++round) {
    RandomExchange exchange(*group, 800 + round);
    const CommRequest request = exchange.Begin(*group);
    world.Barrier();
    group->Wait(request);
    EXPECT_EQ(exchange.recv, exchange.expected);
  }
  CheckInterleaved(*group);
  CheckReductions(*group);
  CheckLargeParts(*group);
}

void CheckEverything(Communicator& world) {
  CheckBarrier(world);
  CheckAllGather(world);
  CheckAllToAllV(world);
  CheckInterleaved(world);
  CheckReductions(world);
  CheckBroadcast(world);
  CheckEmptyCalls(world);
  CheckLargeParts(world);
  CheckSubgroups(world);
  CheckBackground(world);
}

namespace {

constexpr std::byte kUnwritten{0xEE};

// An exchange whose buffers lie where the stream works.
struct StreamExchange {
  RandomExchange host;
  std::span<std::byte> send, recv;

  StreamExchange(const Communicator& group, StreamMemory& memory, int64_t round) : host(group, round) {
    send = memory.PutBytes(host.send);
    recv = memory.PutBytes(std::vector<std::byte>(host.recv.size(), kUnwritten));
  }
  CommRequest Begin(Communicator& group, const Stream& stream) {
    return group.BeginAllToAllV(stream, send, host.send_bytes, recv, host.recv_bytes);
  }
};

void CheckStreamExchanges(Communicator& group, const Stream& stream) {
  StreamMemory memory(stream);
  for (int64_t round = 0; round < 40; ++round) {
    StreamExchange exchange(group, memory, round);
    group.Wait(stream, exchange.Begin(group, stream));
    ASSERT_EQ(memory.GetBytes(exchange.recv), exchange.host.expected) << "round " << round;
  }
  constexpr int kTransfers = 5;
  std::vector<StreamExchange> exchanges;
  std::vector<CommRequest> requests;
  for (int i = 0; i < kTransfers; ++i) exchanges.emplace_back(group, memory, 700 + i);
  for (StreamExchange& exchange : exchanges) requests.push_back(exchange.Begin(group, stream));
  group.Barrier();
  for (int i = 0; i < kTransfers; ++i) {
    const int at = (group.rank() + i * 2) % kTransfers;
    group.Wait(stream, requests[at]);
    EXPECT_EQ(memory.GetBytes(exchanges[at].recv), exchanges[at].host.expected);
  }
  std::vector<Exchange> together;
  std::vector<StreamExchange> apart;
  for (int i = 0; i < kTransfers; ++i) apart.emplace_back(group, memory, 800 + i);
  for (const auto& [host, send, recv] : apart) together.push_back({send, host.send_bytes, recv, host.recv_bytes});
  group.Wait(stream, group.BeginAllToAllV(stream, together));
  for (const StreamExchange& exchange : apart) EXPECT_EQ(memory.GetBytes(exchange.recv), exchange.host.expected);
  const std::vector<int64_t> nothing(group.size(), 0);
  group.AllToAllV(stream, {}, nothing, {}, nothing);
}

// What one transfer brings, the next takes on: around the ring until it is home, and nobody waits in between.
void CheckStreamChain(Communicator& group, const Stream& stream) {
  StreamMemory memory(stream);
  constexpr int64_t kBytes = 100'000;
  std::vector<std::byte> own;
  AppendContent(3, group.rank(), 0, kBytes, own);
  std::span<std::byte> here = memory.PutBytes(own), next = memory.PutBytes(std::vector<std::byte>(kBytes));
  std::vector<int64_t> to(group.size()), from(group.size());
  to[(group.rank() + 1) % group.size()] = from[(group.rank() + group.size() - 1) % group.size()] = kBytes;
  for (int hop = 0; hop < group.size(); ++hop) {
    group.AllToAllV(stream, here, to, next, from);
    std::swap(here, next);
  }
  EXPECT_EQ(memory.GetBytes(here), own);
}

void CheckStreamGathers(Communicator& group, const Stream& stream) {
  StreamMemory memory(stream);
  for (int64_t round = 0; round < 20; ++round) {
    const auto part_bytes = [&](int rank) {  // even ones, and none, too
      return round < 3 ? int64_t{0} + round * 777 : PartBytes(round, rank, 0);
    };
    std::vector<std::byte> send, expected;
    std::vector<int64_t> bytes;
    AppendContent(round, group.rank(), 0, part_bytes(group.rank()), send);
    for (int r = 0; r < group.size(); ++r) {
      bytes.push_back(part_bytes(r));
      AppendContent(round, r, 0, bytes.back(), expected);
    }
    const auto recv = memory.PutBytes(std::vector<std::byte>(expected.size(), kUnwritten));
    group.AllGatherV(stream, memory.PutBytes(send), recv, bytes);
    ASSERT_EQ(memory.GetBytes(recv), expected) << "round " << round;
  }
}

void CheckStreamBroadcasts(Communicator& group, const Stream& stream) {
  StreamMemory memory(stream);
  for (int root = 0; root < group.size(); ++root) {
    for (int64_t bytes : {0, 1, 5000}) {
      std::vector<std::byte> mine, expected;
      AppendContent(bytes, root, 0, bytes, expected);
      AppendContent(bytes, group.rank(), 0, bytes, mine);
      const auto data = memory.PutBytes(mine);
      group.Broadcast(stream, data, root);
      EXPECT_EQ(memory.GetBytes(data), expected);
    }
  }
}

// Sums of integers as large as they may be, apart from what is sent and in its place.
void CheckReduceScatters(Communicator& group, const Stream& stream) {
  StreamMemory memory(stream);
  const int ranks = group.size();
  const auto value = [](uint64_t rank, uint64_t i) {
    return static_cast<int64_t>((rank * 1'000'003 + i + 1) * 0x9E3779B97F4A7C15u) >> 5;
  };
  // The last one is received in several windows.
  for (const int64_t part : {int64_t{0}, int64_t{1}, int64_t{5}, int64_t{1000}, (int64_t{1} << 21) / ranks + 3}) {
    std::vector<int64_t> send(ranks * part), expected(part, 0);
    for (int64_t i = 0; i < ranks * part; ++i) send[i] = value(group.rank(), i);
    for (int r = 0; r < ranks; ++r)
      for (int64_t i = 0; i < part; ++i) expected[i] += value(r, group.rank() * part + i);
    int64_t* sent = memory.Put(send);
    int64_t* apart = memory.Put(std::vector<int64_t>(part, -1));
    int64_t* in_place = sent + group.rank() * part;
    const std::span<const int64_t> all(sent, send.size());
    group.ReduceScatterSum(stream, all, {apart, static_cast<size_t>(part)});
    ASSERT_EQ(memory.Get(apart, part), expected) << part;
    ASSERT_EQ(memory.Get(sent, send.size()), send) << part;
    group.ReduceScatterSum(stream, all, {in_place, static_cast<size_t>(part)});
    ASSERT_EQ(memory.Get(in_place, part), expected) << part;
    std::copy(expected.begin(), expected.end(), send.begin() + group.rank() * part);
    ASSERT_EQ(memory.Get(sent, send.size()), send) << part << ": other parts are left alone";
  }
}

// Every pair of ranks exchanges messages, the lower rank sending first.
void CheckMessages(Communicator& group, const Stream& stream) {
  StreamMemory memory(stream);
  const int64_t sizes[] = {7, 0, 300'000};
  const auto content = [](int from, int to, int64_t bytes) {
    std::vector<std::byte> data;
    AppendContent(bytes, from, to, bytes, data);
    return data;
  };
  for (int low = 0; low < group.size(); ++low) {
    for (int high = low + 1; high < group.size(); ++high) {
      if (group.rank() != low && group.rank() != high) continue;
      const int self = group.rank(), peer = low + high - self;
      std::vector<CommRequest> requests;
      std::vector<std::span<std::byte>> received;
      const auto send = [&] {
        for (int64_t bytes : sizes)
          requests.push_back(group.BeginSend(stream, memory.PutBytes(content(self, peer, bytes)), peer));
      };
      const auto receive = [&] {
        for (int64_t bytes : sizes) {
          received.push_back(memory.PutBytes(std::vector<std::byte>(bytes, kUnwritten)));
          requests.push_back(group.BeginReceive(stream, received.back(), peer));
        }
      };
      self == low ? (send(), receive()) : (receive(), send());
      std::reverse(requests.begin(), requests.end());
      for (const CommRequest request : requests) group.Wait(stream, request);
      for (size_t i = 0; i < received.size(); ++i) EXPECT_EQ(memory.GetBytes(received[i]), content(peer, self, sizes[i]));
    }
  }
}

// Around the ring, with names; some are empty. Done says when, without waiting, and does not end the transfer.
void CheckNamedMessages(Communicator& group, const Stream& stream) {
  StreamMemory memory(stream);
  const int next = (group.rank() + 1) % group.size(), last = (group.rank() + group.size() - 1) % group.size();
  if (group.size() == 1) return;
  for (const int64_t bytes : {7, 0, 300'000}) {
    std::vector<std::byte> mine, expected;
    AppendContent(bytes, group.rank(), next, bytes, mine);
    AppendContent(bytes, last, group.rank(), bytes, expected);
    const auto received = memory.PutBytes(std::vector<std::byte>(bytes, kUnwritten));
    const auto send = [&] { return group.BeginSend(stream, memory.PutBytes(mine), next, {"1SF0", "2RF0"}); };
    const auto receive = [&] { return group.BeginReceive(stream, received, last, {"2RF0", "1SF0"}); };
    // On a device not all of a ring may send first.
    const bool first = group.rank() == 0;
    const CommRequest begun = first ? send() : receive(), other = first ? receive() : send();
    while (!group.Done(stream, begun) || !group.Done(stream, other)) std::this_thread::yield();
    group.Wait(stream, other);
    group.Wait(stream, begun);
    EXPECT_EQ(memory.GetBytes(received), expected);
  }
}

}  // namespace

void CheckDataPlane(Communicator& world, const Stream& stream) {
  const auto odd = world.Split(world.rank() % 2, "parity"), single = world.Split(world.rank(), "single");
  for (Communicator* group : {&world, odd.get(), single.get()}) {
    CheckStreamExchanges(*group, stream);
    CheckStreamChain(*group, stream);
    CheckStreamGathers(*group, stream);
    CheckStreamBroadcasts(*group, stream);
    CheckReduceScatters(*group, stream);
    CheckMessages(*group, stream);
    CheckNamedMessages(*group, stream);
  }
  // Transfers of two groups at once.
  StreamMemory memory(stream);
  StreamExchange first(world, memory, 900), second(*odd, memory, 901);
  const CommRequest a = first.Begin(world, stream), b = second.Begin(*odd, stream);
  odd->Wait(stream, b);
  world.Wait(stream, a);
  EXPECT_EQ(memory.GetBytes(first.recv), first.host.expected);
  EXPECT_EQ(memory.GetBytes(second.recv), second.host.expected);
}

}  // namespace jevons
