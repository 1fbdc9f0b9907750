//! Escaping: text of a run stays text, wherever it stands in the page.

/// Text as HTML has it, between tags and in attributes in double quotes.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Line ends to some.
            '\u{2028}' => out.push_str("&#8232;"),
            '\u{2029}' => out.push_str("&#8233;"),
            // The parser of HTML drops it or takes it for the end.
            '\0' => out.push('\u{fffd}'),
            _ => out.push(letter),
        }
    }
    out
}

/// JSON as an element `script` can hold it: nothing in it ends the element, begins a comment, or is a
/// line end to older scripts. These letters stand in no JSON but within strings, where their escapes
/// mean the same.
pub fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 16);
    for letter in json.chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</script><!-- <b a='1'>\"&\u{2028}\u{2029}\\u003c\n\0";

    #[test]
    fn html_keeps_no_letter_that_means_something() {
        let text = html(HOSTILE);
        assert!(!text.contains(['<', '>', '"', '\'', '\u{2028}', '\0']), "{text}");
        assert!(text.starts_with("&lt;/script&gt;&lt;!-- &lt;b a=&#39;1&#39;&gt;&quot;&amp;"));
    }

    #[test]
    fn json_means_the_same_and_cannot_end_its_element() {
        let plain = serde_json::to_string(&[HOSTILE]).unwrap();
        let text = json(&plain);
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{text}");
        let back: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, [HOSTILE]);
    }
}
