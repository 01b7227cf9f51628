package rinha;

import io.gatling.javaapi.core.Session;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

/**
 * Writes what the verdict is made from, as files of tab-separated columns: {@code requests.tsv} (name, start in ms since
 * 1970, ms, status or 0 without an answer, ok), {@code acknowledged.tsv} (ms since 1970, id, index of the payload), {@code
 * count.tsv} (ms since 1970, status, what {@code /contagem-pessoas} said right after the last answer).
 */
final class Recorder implements AutoCloseable {
  private static final Duration COUNT_TIMEOUT = Duration.ofSeconds(30);
  /** Somebody reads the requests while they are written, to tell how far the load is. */
  private static final long FLUSH_NANOS = Duration.ofMillis(500).toNanos();

  private final Path directory;
  private final BufferedWriter requests;
  private final BufferedWriter acknowledged;
  private long flushed = System.nanoTime();

  Recorder(Path directory) {
    this.directory = directory;
    // Maven, which started this process, is killed with the stress test: the load ends then, too.
    ProcessHandle.current()
        .parent()
        .ifPresent(parent -> parent.onExit().thenRun(() -> Runtime.getRuntime().halt(1)));
    try {
      Files.createDirectories(directory);
      requests = Files.newBufferedWriter(directory.resolve("requests.tsv"));
      acknowledged = Files.newBufferedWriter(directory.resolve("acknowledged.tsv"));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  void request(String name, Session session) {
    long began = session.getLong("began");
    boolean answered = session.contains("status");
    long millis = answered ? session.getInt("millis") : System.currentTimeMillis() - began;
    int status = answered ? session.getInt("status") : 0;
    write(requests, name + '\t' + began + '\t' + millis + '\t' + status + '\t' + !session.isFailed() + '\n');
    flush();
  }

  void acknowledged(String id, int index) {
    write(acknowledged, System.currentTimeMillis() + "\t" + id + '\t' + index + '\n');
  }

  void count(String url) {
    try {
      var request = HttpRequest.newBuilder(URI.create(url)).timeout(COUNT_TIMEOUT).build();
      var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
      String line = System.currentTimeMillis() + "\t" + answer.statusCode() + '\t' + answer.body().strip() + '\n';
      Files.writeString(directory.resolve("count.tsv"), line);
    } catch (IOException error) {
      System.err.println("no count: " + error);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }

  private void flush() {
    synchronized (requests) {
      long now = System.nanoTime();
      if (now - flushed < FLUSH_NANOS) {
        return;
      }
      flushed = now;
      try {
        requests.flush();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }

  private static void write(BufferedWriter file, String line) {
    synchronized (file) {
      try {
        file.write(line);
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }

  @Override
  public void close() {
    try {
      requests.close();
      acknowledged.close();
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
