//! Names made from names: job types from structs, request structs from functions.

/// `SendWelcomeEmail` as `send-welcome-email`, `HTTPProbe` as `http-probe`.
pub(crate) fn kebab_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::with_capacity(name.len() + 4);
    for (index, &letter) in letters.iter().enumerate() {
        if letter == '_' {
            push_dash(&mut kebab);
            continue;
        }
        let follows_small = index > 0 && !letters[index - 1].is_uppercase();
        let precedes_small = letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (follows_small || precedes_small) {
            push_dash(&mut kebab);
        }
        kebab.extend(letter.to_lowercase());
    }
    kebab
}

fn push_dash(kebab: &mut String) {
    if !kebab.is_empty() && !kebab.ends_with('-') {
        kebab.push('-');
    }
}

/// The name of the request of the function `resize_image`: `ResizeImageJob`.
pub(crate) fn request_name(function: &str) -> String {
    let mut name = String::with_capacity(function.len() + 3);
    for word in function.split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.push_str(letters.as_str());
    }
    if !name.ends_with("Job") {
        name.push_str("Job");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn struct_names_become_kebab_case() {
        for (name, kebab) in [
            ("Cleanup", "cleanup"),
            ("SendWelcomeEmail", "send-welcome-email"),
            ("HTTPProbe", "http-probe"),
            ("UploadToS3", "upload-to-s3"),
            ("S3Upload", "s3-upload"),
            ("Report_V2", "report-v2"),
            ("ÜberWeisung", "über-weisung"),
        ] {
            assert_eq!(kebab_case(name), kebab);
        }
    }

    #[test]
    fn function_names_become_request_names() {
        for (function, request) in [
            ("resize", "ResizeJob"),
            ("daily_report", "DailyReportJob"),
            ("mail_job", "MailJob"),
            ("_x", "XJob"),
        ] {
            assert_eq!(request_name(function), request);
        }
    }
}
