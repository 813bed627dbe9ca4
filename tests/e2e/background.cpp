#include "tests/e2e/background.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "core/file.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

int status_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Background::Background(const std::vector<std::string>& arguments, const std::string& err) {
  std::vector<std::string> words{"bitstrata"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string program = executable().string();
  pid_ = ::fork();
  if (pid_ > 0) ::setpgid(pid_, pid_);  // in both, so that no signal to the group comes too early
  if (pid_ == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
    if (!err.empty()) ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    ::setpgid(0, 0);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
}

Background::~Background() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Background::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

void Background::signal_group(int number) const {
  if (pid_ > 0) ::kill(-pid_, number);
}

int Background::wait() {
  if (pid_ > 0) {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    status_ = status_of(status);
  }
  return status_;
}

bool Background::ended_within(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (pid_ > 0 && std::chrono::steady_clock::now() < end) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      status_ = status_of(status);
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  return pid_ < 0;
}

Survival run_killing(const std::vector<std::string>& arguments, std::chrono::duration<double> whole,
                     Random& random, const std::string& log) {
  constexpr int kMostKills = 100;
  Survival survival;
  while (survival.kills < kMostKills) {
    const double share = survival.kills == 0 ? 0.05 + 0.2 * random.uniform() : 0.1 + 0.5 * random.uniform();
    const auto life = whole * (share * (1 + 0.05 * survival.kills));
    Background job(arguments, log);
    if (!job.ended_within(std::chrono::duration_cast<std::chrono::milliseconds>(life))) job.signal(SIGKILL);
    survival.status = job.wait();  // it may have ended by itself just before the signal
    if (survival.status != 128 + SIGKILL) break;
    ++survival.kills;
  }
  survival.err = read_text_file(log);
  return survival;
}

}  // namespace bitstrata::testing
