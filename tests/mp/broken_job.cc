// Jobs that go wrong in one way each, for watchdog_test: broken_job WHAT, under mpirun. Succeeds where
// nothing was found.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "parallel/comm/mpi.h"
#include "parallel/comm/watchdog.h"

namespace jevons {
namespace {

// An all-to-all in which rank 0 sends every rank `extra` bytes more than it expects.
void ExchangeWithExtraBytes(Communicator& world, int64_t extra, int64_t bytes) {
  std::vector<int64_t> sent(world.size(), world.rank() == 0 ? bytes + extra : bytes), expected(world.size(), bytes);
  sent[world.rank()] = expected[world.rank()] = 0;
  std::vector<std::byte> send((world.size() - 1) * sent[(world.rank() + 1) % world.size()]);
  std::vector<std::byte> recv((world.size() - 1) * bytes);
  world.AllToAllV(send, sent, recv, expected);
}

void Run(Communicator& world, const std::string& what) {
  SetWatchdogStep(7);
  const bool last = world.rank() == world.size() - 1;
  world.Barrier();
  if (what == "absent" && last) pause();
  if (what == "dead" && last) raise(SIGKILL);
  if (what == "stopped" && last) raise(SIGSTOP);
  if (what == "long") ExchangeWithExtraBytes(world, 4, 100);
  if (what == "short") ExchangeWithExtraBytes(world, -4, 100);
  if (what == "long_large") ExchangeWithExtraBytes(world, 4, 1 << 20);
  if (what == "short_large") ExchangeWithExtraBytes(world, -4, 1 << 20);
  if (what == "one_fails" && last) MpiSession::Abort(4);
  std::vector<std::byte> data(3);
  if (what == "other_call" && last) world.Broadcast(data, 0);
  world.Barrier();
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  auto session = jevons::MpiSession::Start(&argc, &argv);
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", std::string(session.status().message()).c_str());
    return static_cast<int>(jevons::ExitCodeOf(session.status()));
  }
  const std::string what = argc > 1 ? argv[1] : "";
  // Sizes that disagree are found without waiting: the deadline is far, since a busy machine takes its time to end the other rank.
  const bool sizes = what.find("short") == 0 || what.find("long") == 0;
  jevons::SetWatchdogDeadline(sizes ? 60 : 1);
  jevons::Run((*session)->world(), what);
  return 0;
}
