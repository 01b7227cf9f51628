package rinha;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** The contest's two files: a header, then one value a line. */
final class Feeders {
  private Feeders() {}

  static List<String> lines(Path file) {
    try {
      List<String> lines = Files.readAllLines(file);
      if (lines.size() < 2) {
        throw new IllegalArgumentException(file + ": expected a header and at least one line");
      }
      return lines.subList(1, lines.size());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** The values in order, again and again; {@code index} is the line's number from 0. One thread at a time asks. */
  static Iterator<Map<String, Object>> circular(String name, List<String> values) {
    Stream<Map<String, Object>> round =
        IntStream.iterate(0, index -> (index + 1) % values.size())
            .mapToObj(index -> Map.of(name, values.get(index), "index", index));
    return round.iterator();
  }
}
