// Sends one message with Jakarta Mail (JavaMail); see README.md.

import jakarta.mail.Address;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.FileInputStream;
import java.util.Properties;

public class JakartaMail {
    public static void main(String[] words) throws Exception {
        String tls = System.getenv("SMTP_TLS");
        String user = System.getenv("SMTP_USER");
        String protocol = tls.equals("implicit") ? "smtps" : "smtp";
        Properties properties = new Properties();
        String prefix = "mail." + protocol + ".";
        properties.put(prefix + "from", words[1]);
        properties.put(prefix + "localhost", System.getenv("SMTP_HELLO"));
        properties.put(prefix + "allow8bitmime", "true");
        properties.put(prefix + "timeout", "60000");
        properties.put(prefix + "starttls.enable", String.valueOf(tls.equals("starttls")));
        properties.put(prefix + "starttls.required", String.valueOf(tls.equals("starttls")));
        properties.put(prefix + "ssl.trust", "*");
        properties.put(prefix + "auth", String.valueOf(!user.isEmpty()));
        Session session = Session.getInstance(properties);

        MimeMessage message = new MimeMessage(session, new FileInputStream(words[0]));
        Address[] forwardPaths = new Address[words.length - 2];
        for (int at = 0; at < forwardPaths.length; at++) {
            forwardPaths[at] = new InternetAddress(words[at + 2]);
        }
        try (Transport transport = session.getTransport(protocol)) {
            int port = Integer.parseInt(System.getenv("SMTP_PORT"));
            String given = user.isEmpty() ? null : user;
            transport.connect(System.getenv("SMTP_HOST"), port, given, System.getenv("SMTP_PASSWORD"));
            transport.sendMessage(message, forwardPaths);
        }
    }
}
