"""What `llm4cdsr doctor` looks at: each check returns findings, and changes nothing."""
